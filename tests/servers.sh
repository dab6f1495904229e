# shellcheck shell=bash
# PostgreSQL and Redis servers on free loopback ports. Sourced by tests/run, bench/run and docker/dev, never run.
#
# servers_find   finds the servers' programs, or installs them; sets postgres_bin and redis_server
# servers_start  starts one of each; sets database_url and redis_url
# servers_stop   ends exactly those two; safe to call at any time
#
# Their data is thrown away at the end, or kept for the next time in the folder that servers_kept names.
#
# Both servers ask for a password that is new each time: on a shared machine, a loopback port is open to everybody.

# shellcheck source-path=SCRIPTDIR source=packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

servers_dir=
servers_kept=
postgres_data=
redis_pid=
# Who runs PostgreSQL, which refuses to run as root. Empty: whoever runs the script.
postgres_user=

# The folder that holds initdb, pg_ctl and postgres; fails if there is none.
find_postgres() {
    local dir initdb
    if [ -n "${TEST_POSTGRES_BIN:-}" ]; then
        printf '%s\n' "$TEST_POSTGRES_BIN"
        return
    fi
    # Debian keeps them out of PATH, one folder per version: the newest is taken.
    initdb=$(command -v initdb || find /usr/lib/postgresql -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)
    [ -n "$initdb" ] || return 1
    # What is in PATH may be a link into the folder that has them all.
    for dir in "$(dirname "$(readlink -f "$initdb")")" "$(dirname "$initdb")"; do
        if [ -x "$dir/pg_ctl" ] && [ -x "$dir/postgres" ]; then
            printf '%s\n' "$dir"
            return
        fi
    done
    return 1
}

# The program of a Redis or Valkey server; fails if there is none.
find_redis() {
    if [ -n "${TEST_REDIS_SERVER:-}" ]; then
        printf '%s\n' "$TEST_REDIS_SERVER"
    else
        command -v redis-server || command -v valkey-server
    fi
}

servers_find() {
    local missing=()
    postgres_bin=$(find_postgres) || missing+=(postgresql)
    redis_server=$(find_redis) || missing+=(redis-server)
    [ "${#missing[@]}" -gt 0 ] || return 0
    can_install || die "this needs the programs of ${missing[*]}: install them (Debian: apt-get install ${missing[*]})," \
        "or set TEST_DATABASE_URL and TEST_REDIS_URL to servers that may be used for tests."
    install_packages "${missing[@]}" || die "apt-get could not install ${missing[*]}: see its message above."
    postgres_bin=$(find_postgres) || die "the package postgresql is installed, but initdb was not found: set TEST_POSTGRES_BIN to its folder."
    redis_server=$(find_redis) || die "the package redis-server is installed, but redis-server was not found: set TEST_REDIS_SERVER to it."
}

servers_start() {
    # What is written here holds passwords.
    umask 077
    if [ -n "$servers_kept" ]; then
        mkdir -p "$servers_kept"
        servers_dir=$(cd "$servers_kept" && pwd)
    else
        servers_dir=$(mktemp -d "${TMPDIR:-/tmp}/claviger-servers.XXXXXX")
    fi
    # Another user has to be able to pass through to PostgreSQL's folder.
    chmod 711 "$servers_dir"
    start_postgres
    start_redis
    umask 022
}

servers_stop() {
    local mode=fast
    if [ -n "$redis_pid" ]; then
        kill "$redis_pid" 2>/dev/null || true
        wait "$redis_pid" 2>/dev/null || true
        redis_pid=
    fi
    if [ -n "$postgres_data" ]; then
        # Where there is nothing to keep, it need not be gentle. pg_ctl takes the process id from the data folder.
        [ -n "$servers_kept" ] || mode=immediate
        as_postgres "$postgres_bin/pg_ctl" stop --silent --mode "$mode" --pgdata "$postgres_data" >/dev/null 2>&1 || true
        postgres_data=
    fi
    if [ -n "$servers_dir" ]; then
        [ -n "$servers_kept" ] || rm -rf "$servers_dir"
        servers_dir=
    fi
}

postgres_version() {
    "$postgres_bin/postgres" --version | sed 's/^postgres (PostgreSQL) //'
}

redis_version() {
    "$redis_server" --version | sed 's/^\([A-Za-z]*\) server v=\([^ ]*\).*/\1 \2/'
}

# A loopback port that nobody listens on. It is below the range from which Linux takes the ports of outgoing connections.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    printf '%s\n' "$port"
}

random_password() {
    od -An -N 16 -t x1 /dev/urandom | tr -d ' \n'
}

as_postgres() {
    if [ -z "$postgres_user" ]; then
        "$@"
    elif has setpriv; then
        setpriv --reuid "$postgres_user" --regid "$(id -g "$postgres_user")" --clear-groups -- "$@"
    else
        # The first word after the script is its $0: the program. The others are its arguments.
        # shellcheck disable=SC2016
        su -s /bin/sh "$postgres_user" -c '"$0" "$@"' -- "$@"
    fi
}

# The same, from a folder that this user may enter: PostgreSQL complains about any other.
cd_postgres() (
    cd "$servers_dir" && as_postgres "$@"
)

start_postgres() {
    local home=$servers_dir/postgres password port attempt locale=C
    if [ "$(id -u)" -eq 0 ]; then
        postgres_user=nobody
        ! id postgres >/dev/null 2>&1 || postgres_user=postgres
    fi
    # Written last: an initdb may have been broken off.
    if [ ! -e "$home/made" ]; then
        mkdir -m 700 "$home" || die "there is no complete PostgreSQL in $home: remove that folder."
        random_password >"$home/password"
        [ -z "$postgres_user" ] || chown -R "$postgres_user" "$home"
        as_postgres test -w "$home" ||
            die "PostgreSQL runs as the user $postgres_user, who can't reach $home: set TMPDIR, or DEV_DATA for" \
                "\`make dev\`, to a folder that is open to all."
        # macOS has no C.UTF-8.
        ! locale -a 2>/dev/null | grep -qi '^c\.utf-\?8$' || locale=C.UTF-8
        if ! cd_postgres "$postgres_bin/initdb" --pgdata "$home/data" --username claviger --pwfile "$home/password" \
            --auth scram-sha-256 --encoding UTF8 --locale "$locale" --no-sync >"$servers_dir/initdb.log" 2>&1; then
            cat "$servers_dir/initdb.log" >&2
            die "initdb failed: see its message above."
        fi
        # It makes no socket: the usual folder may not be there.
        printf '%s\n' "listen_addresses = '127.0.0.1'" "unix_socket_directories = ''" "max_connections = 200" |
            as_postgres tee -a "$home/data/postgresql.conf" >/dev/null
        # What is thrown away needs no durability.
        [ -n "$servers_kept" ] || printf '%s\n' "fsync = off" "synchronous_commit = off" "full_page_writes = off" |
            as_postgres tee -a "$home/data/postgresql.conf" >/dev/null
        : >"$home/made"
    fi
    password=$(cat "$home/password")

    # From here on there may be something to stop.
    postgres_data=$home/data
    # Somebody may take the port between the look and the start.
    for attempt in 1 2 3 4 5; do
        port=$(free_port)
        if cd_postgres "$postgres_bin/pg_ctl" start --silent --wait --pgdata "$home/data" --log "$home/log" \
            --options "-p $port" >/dev/null 2>&1; then
            # Read by the scripts that source this one.
            # shellcheck disable=SC2034
            database_url=postgres://claviger:$password@127.0.0.1:$port/postgres
            return
        fi
        say "PostgreSQL did not start on port $port (attempt $attempt)"
    done
    cat "$home/log" >&2
    die "PostgreSQL did not start: see its log above."
}

start_redis() {
    local log=$servers_dir/redis.log password port attempt tick appendonly=no
    [ -z "$servers_kept" ] || appendonly=yes
    password=$(random_password)
    for attempt in 1 2 3 4 5; do
        port=$(free_port)
        : >"$log"
        # The settings come in a file, since everybody can read a program's arguments.
        printf '%s\n' "bind 127.0.0.1" "port $port" "requirepass $password" "dir $servers_dir" 'save ""' \
            "appendonly $appendonly" >"$servers_dir/redis.conf"
        "$redis_server" "$servers_dir/redis.conf" >"$log" 2>&1 &
        redis_pid=$!
        for ((tick = 0; tick < 200; tick++)); do
            if grep -q 'Ready to accept connections' "$log"; then
                # shellcheck disable=SC2034
                redis_url=redis://:$password@127.0.0.1:$port/0
                return
            fi
            kill -0 "$redis_pid" 2>/dev/null || break
            sleep 0.05
        done
        kill "$redis_pid" 2>/dev/null || true
        wait "$redis_pid" 2>/dev/null || true
        redis_pid=
        say "Redis did not start on port $port (attempt $attempt)"
    done
    cat "$log" >&2
    die "Redis did not start: see its log above."
}
