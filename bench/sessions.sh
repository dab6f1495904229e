# shellcheck shell=bash
# What sessions cost a check, and Redis. Sourced by bench/run, never run.
#
# The sessions of `single` and `many` come from real log-ins. A million of them would take hours, so those are copies of ten
# real ones, made by bench/src/bin/fill.rs, which says why they may stand for them.

# What is not set here is set by bench/run.
# shellcheck disable=SC2154

# What browsers send, and the longest that is kept.
browser='Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36'
long_browser=$(printf '%s %0*d' "$browser" $((255 - ${#browser})) 0)

# Each in a database of its own, so that they can be measured in turn.
redis_of_thousand=1
redis_of_million=2
redis_of_memory=3

# redis_database NUMBER: its URL.
redis_database() {
    printf '%s/%d\n' "${redis_url%/*}" "$1"
}

# sign_in USERNAME COUNT: the tokens, one a line.
sign_in() {
    "$bin/load" sign-in --addr "$addr" --username "$1" --count "$2" --user-agent "${user_agent:-$browser}" \
        --client 203.0.113.195
}

# fill NAME DATABASE PER_USER USERS ARGUMENT...: this many users with this many sessions each. Leaves the report in the file
# filled_NAME.
fill() {
    local name=$1 url token
    url=$(redis_database "$2")
    CLAVIGER_SERVER__TRUSTED_PROXIES=127.0.0.1 start_service "$url"
    token=$(sign_in single "$3" | tail -n 1)
    stop
    BENCH_REDIS_URL=$url "$bin/fill" --token "$token" --users "$4" "${@:5}" >"$work/filled_$name"
}

bytes() {
    field bytes_per_session "$work/filled_$1"
}

# checks_of NAME: as `checks`, with any of the tokens in this file.
checks_of() {
    BENCH_TOKENS=$work/$1.tokens requests "$(check_url)" --script bench/tokens.lua
}

# --- what a check costs, and a session ------------------------------------------------------------------------------

prepare_sessions() {
    start_service "$redis_url"
    sign_in single 1 >"$work/single.tokens"
    sign_in many 100 >"$work/many.tokens"
    stop
    say "the memory of sessions"
    fill one_per_user $redis_of_memory 1 100000 --empty
    fill ten_per_user $redis_of_memory 10 10000 --empty
    fill hundred_per_user $redis_of_memory 100 1000 --empty
    user_agent=$long_browser fill long_user_agent $redis_of_memory 10 10000 --empty
}

introspections() {
    local token
    token=$(head -n 1 "$work/single.tokens")
    BENCH_TOKEN=$token requests "http://$addr/v1.0/token/introspect" --script bench/introspect.lua \
        --header "Authorization: Basic $(printf 'bench:%s' "$secret" | base64 --wrap 0)"
}

measure_sessions() {
    local secret before after single many introspections idle
    secret=$(random_password)
    CLAVIGER_CLIENTS__BENCH__SECRET=$secret start_service "$redis_url"
    # Before and after: so that which of them comes first makes no difference.
    before=$(checks_of single)
    many=$(checks_of many)
    after=$(checks_of single)
    single=$(calc %.1f "($before + $after) / 2")
    introspections=$(introspections)
    stop
    CLAVIGER_TOKENS__IDLE_TTL=1h start_service "$redis_url"
    sign_in single 1 >"$work/idle.tokens"
    idle=$(checks_of idle)
    stop
    note checks_single "$single"
    note checks_many "$many"
    note checks_idle "$idle"
    note introspections "$introspections"
    note many_sessions_ratio "$(calc %.3f "$many / $single")"
    note idle_ratio "$(calc %.3f "$idle / $single")"
    note introspections_ratio "$(calc %.3f "$introspections / $single")"
    say "  checks/s: of a user with 1 session $single, with 100 $many; with an idle limit $idle; introspections/s $introspections"
}

rows_of_sessions() {
    row "check of a user with 100 sessions / with one" '>=' 0.90 "$(median many_sessions_ratio)" \
        "$(median checks_many) / $(median checks_single) per s"
    row "memory of Redis per session, ten per user, bytes" '<' 700 "$(bytes ten_per_user)" \
        "$(bytes one_per_user) with one per user, $(bytes hundred_per_user) with 100; a user agent of ${#browser} characters, with one of 256 $(bytes long_user_agent)"
    figure "check with an idle limit / without" "$(median idle_ratio)" "$(median checks_idle) / $(median checks_single) per s"
    figure "introspection / check" "$(median introspections_ratio)" "$(median introspections) / $(median checks_single) per s"
}

# --- a million ------------------------------------------------------------------------------------------------------

prepare_million() {
    local count
    say "$sessions sessions"
    # All lists have as many lines, so that they make as much work for the load generator.
    fill thousand $redis_of_thousand 10 100 --tokens "$work/thousand.tokens" --lines "$sessions"
    fill million $redis_of_million 10 $((sessions / 10)) --tokens "$work/million.tokens"
    for ((count = 0; count < sessions; count += 1000)); do
        head -n 1000 "$work/million.tokens"
    done >"$work/some.tokens"
}

measure_million() {
    local thousand some
    start_service "$(redis_database $redis_of_thousand)"
    thousand=$(checks_of thousand)
    stop
    start_service "$(redis_database $redis_of_million)"
    some=$(checks_of some)
    stop
    note checks_thousand "$thousand"
    note checks_some "$some"
    note some_ratio "$(calc %.3f "$some / $thousand")"
    say "  checks/s: of 1,000 sessions $thousand, of as many among $sessions $some"
}

# When a session was last seen is written once a minute, for so many sessions at most. So it takes a whole minute, and one that
# begins with nothing written, to see what that costs where every session is checked.
finish_million() {
    local before first whole after
    say "a minute among all of them"
    start_service "$(redis_database $redis_of_thousand)"
    before=$(seconds=30 checks_of thousand)
    stop
    start_service "$(redis_database $redis_of_million)"
    first=$(checks_of million)
    sleep $((60 - 10#$(date +%S)))
    whole=$(seconds=60 checks_of million)
    stop
    start_service "$(redis_database $redis_of_thousand)"
    after=$(seconds=30 checks_of thousand)
    stop
    note minute_of_thousand "$(calc %.1f "($before + $after) / 2")"
    note minute_of_million "$whole"
    note first_of_million "$first"
    say "  checks/s: of 1,000 sessions $before and $after, of $sessions $whole, in their first seconds $first"
}

rows_of_million() {
    local thousand million first
    thousand=$(median minute_of_thousand)
    million=$(median minute_of_million)
    first=$(median first_of_million)
    row "check of 1,000 sessions among $sessions live ones / where there are no others" '>=' 0.90 "$(median some_ratio)" \
        "$(median checks_some) / $(median checks_thousand) per s; $(bytes million) bytes of Redis per session"
    row "check of any of $sessions live sessions / of any of 1,000, for a minute" '>=' 0.90 "$(calc %.3f "$million / $thousand")" \
        "$million / $thousand per s"
    figure "the same in the first $((seconds + 1)) s, when none was seen in this minute" "$(calc %.3f "$first / $thousand")" \
        "$first / $thousand per s"
}
