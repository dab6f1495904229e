"""Who holds a token of Claviger? By GET on Redis, with redis-py."""

import hashlib
import os
import re
import sys

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TOKEN = re.compile(r"clv_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}")


def user_id(client, token, key_prefix="", sha256=False):
    """The user's id; None is "not logged in". An exception is "can't tell": answer 503 then, and never 401."""
    if not TOKEN.fullmatch(token):
        return None
    key = hashlib.sha256(token.encode()).hexdigest() if sha256 else token
    value = client.get(key_prefix + key)
    return None if value is None else int(value)


def connect(url):
    """A client for all threads. It asks once more where a connection has just been closed."""
    return redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1, retry=Retry(NoBackoff(), 1))


def main():
    """To try it: reads tokens, one a line. The settings have the names that Claviger has for them."""
    client = connect(os.environ["REDIS_URL"])
    key_prefix = os.environ.get("CLAVIGER_TOKENS__KEY_PREFIX", "")
    sha256 = os.environ.get("CLAVIGER_TOKENS__KEY") == "sha256"
    for line in sys.stdin:
        try:
            found = user_id(client, line.removesuffix("\n"), key_prefix, sha256)
        except (redis.RedisError, ValueError):
            found = "can't tell"
        print("not logged in" if found is None else found, flush=True)


if __name__ == "__main__":
    main()
