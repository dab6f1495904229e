# shellcheck shell=bash
# The service behind nginx and its auth_request. Sourced by bench/run, never run.

# What is not set here is set by bench/run.
# shellcheck disable=SC2154

gateway=
gateway_pid=
gateway_dir=

start_gateway() {
    gateway=127.0.0.1:$(free_port)
    # Not in $work: nginx's own user has to be able to read it.
    gateway_dir=$(mktemp -d)
    chmod 755 "$gateway_dir"
    printf 'what is guarded\n' >"$gateway_dir/file"
    sed -e "s/WORKERS/$workers/" -e "s/SERVICE/$addr/" -e "s/GATEWAY/$gateway/" bench/nginx.conf >"$gateway_dir/nginx.conf"
    "$nginx" -p "$gateway_dir" -c "$gateway_dir/nginx.conf" >>"$log" 2>&1 &
    gateway_pid=$!
    "$bin/load" wait --addr "$gateway" || die "nginx did not start: BENCH_LOG=/tmp/bench.log keeps what it says."
}

stop_gateway() {
    if [ -n "$gateway_pid" ]; then
        kill "$gateway_pid" 2>/dev/null || true
        wait "$gateway_pid" 2>/dev/null || true
        gateway_pid=
    fi
    [ -z "$gateway_dir" ] || rm -rf "$gateway_dir"
    gateway_dir=
}

# connections: how many connections anybody here has accepted so far, how many of those nginx has, and its requests.
connections() {
    # One line of names and one of numbers; the seventh is PassiveOpens.
    awk '$1 == "Tcp:" && $7 ~ /^[0-9]+$/ { print $7 }' /proc/net/snmp
    "$bin/load" get --addr "$gateway" --path /status | awk '/^ *[0-9]+ [0-9]+ [0-9]+ *$/ { print $1; print $3 }'
}

measure_gateway() {
    local static guarded secret before after
    start_service "$redis_url"
    secret=$(token)
    start_gateway
    static=$(requests "http://$gateway/open")
    before=$(connections)
    guarded=$(requests "http://$gateway/guarded" --header "Authorization: Bearer $secret")
    after=$(connections)
    stop_gateway
    stop
    note static "$static"
    note guarded "$guarded"
    note guarded_ratio "$(calc %.3f "$guarded / $static")"
    # The service does not count what it accepts; the kernel counts what all do, so this is the most that it can have been.
    note new_connections "$(paste -d ' ' <(printf '%s\n' "$before") <(printf '%s\n' "$after") |
        awk '{ grew[NR] = $2 - $1 } END { printf "%.4f\n", (grew[1] - grew[2]) / grew[3] }')"
    say "  requests/s of nginx: a file $static, with auth_request $guarded; connections that are new to the service, each" \
        "$(tail -n 1 "$work/new_connections")"
}

rows_of_gateway() {
    row "nginx with auth_request, 64 connections / the same file without" '>=' 0.27 "$(median guarded_ratio)" \
        "$(median guarded) / $(median static) per s; $("$nginx" -v 2>&1 | sed 's/.*: //'), $workers workers"
    row "new connections from nginx to the service per request" '<=' 0.02 "$(median new_connections)" "$(most new_connections) at most"
}
