-- Ends a token and tells whose it was.
-- KEYS[1]  the token's key
-- KEYS[2]  its companion, in the same slot; only with an idle limit
local user = redis.call('GET', KEYS[1])
redis.call('DEL', unpack(KEYS))
return user
