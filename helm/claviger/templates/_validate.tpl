{{/* What a schema can't say: rules between values. All that is wrong is said at once, each with the name of the value;
only a configuration that can't be read ends the search. */}}
{{- define "claviger.validate" -}}
{{- $wrong := list -}}
{{- $values := .Values -}}

{{- if not (regexMatch "^[a-z]" (include "claviger.fullname" .)) -}}
{{- $wrong = append $wrong (printf "fullnameOverride: the name of a Service has to begin with a letter, and %s does not" (include "claviger.fullname" .)) -}}
{{- end -}}
{{- if not $values.database.existingSecret -}}
{{- $wrong = append $wrong "database.existingSecret: name a Secret with the URL of PostgreSQL under the key `url` (database.keys.url), or, where database.host is set, with `username` and `password`" -}}
{{- end -}}
{{- if not $values.tokens.existingSecret -}}
{{- if not (and $values.tokens.host (not $values.tokens.keys.username) (not $values.tokens.keys.password)) -}}
{{- $wrong = append $wrong "tokens.existingSecret: name a Secret with the URL of Redis under the key `url` (tokens.keys.url), or, where tokens.host is set, with `password`; for a Redis without a password set tokens.host, and tokens.keys.password to \"\"" -}}
{{- end -}}
{{- end -}}
{{- if and $values.database.host (not (and $values.database.keys.username $values.database.keys.password)) -}}
{{- $wrong = append $wrong "database.keys: with database.host both username and password have to name a key of the Secret" -}}
{{- end -}}
{{- if and (not $values.database.host) $values.database.parameters -}}
{{- $wrong = append $wrong "database.parameters: without database.host the URL is in the Secret, and its parameters are too; set database.host, or put them there" -}}
{{- end -}}
{{- if regexMatch "(?i)(^|&)(user|password)=" $values.database.parameters -}}
{{- $wrong = append $wrong "database.parameters: user and password are secret; put them into the Secret of database.existingSecret" -}}
{{- end -}}
{{- if and (not $values.tokens.host) $values.tokens.tls -}}
{{- $wrong = append $wrong "tokens.tls: without tokens.host the URL is in the Secret; write rediss:// there, or set tokens.host" -}}
{{- end -}}
{{- range $section := list "database" "tokens" -}}
{{- if and (not (index $values $section).host) (not (index $values $section).keys.url) -}}
{{- $wrong = append $wrong (printf "%s.keys.url: without %s.host it has to name the key of the URL in the Secret" $section $section) -}}
{{- end -}}
{{- end -}}

{{- if and $values.clients.names (not $values.clients.existingSecret) -}}
{{- $wrong = append $wrong "clients.existingSecret: name the Secret that has the names in clients.names as its keys" -}}
{{- end -}}
{{- if and $values.clients.existingSecret (not $values.clients.names) -}}
{{- $wrong = append $wrong "clients.names: name the clients, which are the keys of the Secret of clients.existingSecret" -}}
{{- end -}}

{{- $config := $values.config -}}
{{- if kindIs "string" $config -}}
{{- $config = fromToml $config -}}
{{- with $config.Error }}{{ fail (printf "\nclaviger: config: this is no TOML: %s" .) }}{{ end -}}
{{- end -}}
{{- $sections := list "server" "database" "tokens" "password" "limits" "bootstrap" "telemetry" -}}
{{- range $section, $keys := $config -}}
{{- if eq $section "clients" -}}
{{- $wrong = append $wrong "config.clients: the secrets of clients do not belong here; use the values clients.existingSecret and clients.names" -}}
{{- else if and (ne $section "mode") (not (has $section $sections)) -}}
{{- $wrong = append $wrong (printf "config.%s: there is no such section; there are %s" $section (join ", " $sections)) -}}
{{- else if and (ne $section "mode") (not (kindIs "map" $keys)) -}}
{{- fail (printf "\n\nclaviger: config.%s: this is a section, and has to hold keys" $section) -}}
{{- end -}}
{{- end -}}
{{- $owned := dict
    "server.listen" "bindAddress"
    "server.ops_listen" "bindAddress"
    "server.base_path" "basePath"
    "server.trusted_proxies" "trustedProxies"
    "server.shutdown_grace" "shutdown.drainSeconds"
    "database.url" "database.existingSecret or database.host"
    "database.url_file" "database.existingSecret"
    "database.migrate" "migrations.mode"
    "database.schema_version" "migrations.mode, and see docs/upgrading.md for the way back"
    "database.username" "database.existingSecret and database.keys.username"
    "database.username_file" "database.existingSecret and database.keys.username"
    "database.password" "database.existingSecret and database.keys.password"
    "database.password_file" "database.existingSecret and database.keys.password"
    "tokens.url" "tokens.existingSecret or tokens.host"
    "tokens.url_file" "tokens.existingSecret"
    "tokens.username" "tokens.existingSecret and tokens.keys.username"
    "tokens.username_file" "tokens.existingSecret and tokens.keys.username"
    "tokens.password" "tokens.existingSecret and tokens.keys.password"
    "tokens.password_file" "tokens.existingSecret and tokens.keys.password"
    "bootstrap.username" "bootstrap.username"
    "bootstrap.password" "bootstrap.existingSecret"
    "bootstrap.password_file" "bootstrap.existingSecret" -}}
{{- range $section, $keys := omit $config "clients" -}}
{{- if kindIs "map" $keys -}}
{{- range $key, $value := $keys -}}
{{- if or (kindIs "map" $value) (and (kindIs "float64" $value) (ne (toString $value) (toString (floor $value)))) -}}
{{- $wrong = append $wrong (printf "config.%s.%s: expected a text, a whole number, true, false or a list of texts" $section $key) -}}
{{- end -}}
{{- with get $owned (printf "%s.%s" $section $key) -}}
{{- $wrong = append $wrong (printf "config.%s.%s: the chart sets it; use the value %s" $section $key .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The rule of the service: 64 MiB for all else, room for one hash from elsewhere, and the workers. */ -}}
{{- $password := $config.password | default dict -}}
{{- range $key := list "memory_kib" "workers" "foreign_max_mib" -}}
{{- $value := get $password $key -}}
{{- $is := or (kindIs "float64" $value) (kindIs "int64" $value) (kindIs "int" $value) (and (eq $key "workers") (eq (toString $value) "auto")) -}}
{{- if and (hasKey $password $key) (not $is) -}}
{{- fail (printf "\n\nclaviger: config.password.%s: expected a whole number" $key) -}}
{{- end -}}
{{- end -}}
{{- $limit := include "claviger.kib" $values.resources.limits.memory | int64 -}}
{{- $worker := $password.memory_kib | default 19456 | int64 -}}
{{- $workers := 1 -}}
{{- if and (hasKey $password "workers") (ne (toString $password.workers) "auto") }}{{ $workers = $password.workers | int64 }}{{ end -}}
{{- $foreign := mul 1024 (ternary ($password.foreign_max_mib | default 0) 128 (hasKey $password "foreign_max_mib") | int64) -}}
{{- $needed := add 65536 $foreign (mul $workers $worker) -}}
{{- if lt $limit $needed -}}
{{- $wrong = append $wrong (printf "resources.limits.memory: %s is too little for %d hash workers; %d MiB are needed: 64 MiB, config.password.foreign_max_mib (%d MiB), and config.password.memory_kib (%d KiB) for each worker" (toString $values.resources.limits.memory) $workers (div (add $needed 1023) 1024) (div $foreign 1024) $worker) -}}
{{- end -}}
{{- if gt (include "claviger.kib" $values.resources.requests.memory | int64) $limit -}}
{{- $wrong = append $wrong "resources.requests.memory: more than resources.limits.memory" -}}
{{- end -}}
{{- if gt (include "claviger.kib" $values.migrations.resources.requests.memory | int64) (include "claviger.kib" $values.migrations.resources.limits.memory | int64) -}}
{{- $wrong = append $wrong "migrations.resources.requests.memory: more than migrations.resources.limits.memory" -}}
{{- end -}}

{{- range $where, $resources := dict "resources" $values.resources "migrations.resources" $values.migrations.resources -}}
{{- if and $resources.limits.cpu (gt (include "claviger.millis" $resources.requests.cpu | float64) (include "claviger.millis" $resources.limits.cpu | float64)) -}}
{{- $wrong = append $wrong (printf "%s.requests.cpu: more than %s.limits.cpu" $where $where) -}}
{{- end -}}
{{- end -}}
{{- range $values.trustedProxies -}}
{{- if hasSuffix "/0" . -}}
{{- $wrong = append $wrong (printf "trustedProxies: %s is everybody, so each client could choose its address" .) -}}
{{- end -}}
{{- end -}}

{{- $routes := list -}}
{{- if $values.ingress.enabled }}{{ $routes = append $routes "ingress.enabled" }}{{ end -}}
{{- if $values.gateway.enabled }}{{ $routes = append $routes "gateway.enabled" }}{{ end -}}
{{- if and $routes (not $values.trustedProxies) -}}
{{- $wrong = append $wrong (printf "trustedProxies: with %s the service has to know the addresses of the controller (CIDR, mostly the network of the pods), or all clients would look like one" (join " and " $routes)) -}}
{{- end -}}
{{- if and $values.gateway.enabled (not $values.gateway.parentRefs) -}}
{{- $wrong = append $wrong "gateway.parentRefs: name the Gateway that the route belongs to" -}}
{{- end -}}

{{- if and $values.autoscaling.enabled (lt (int $values.autoscaling.maxReplicas) (int $values.autoscaling.minReplicas)) -}}
{{- $wrong = append $wrong "autoscaling.maxReplicas: less than autoscaling.minReplicas" -}}
{{- end -}}
{{- if and $values.serviceMonitor.enabled $values.podMonitor.enabled -}}
{{- $wrong = append $wrong "serviceMonitor.enabled and podMonitor.enabled: each pod would be scraped twice; choose one" -}}
{{- end -}}
{{- if and $values.prometheusRule.enabled (not (or $values.serviceMonitor.enabled $values.podMonitor.enabled)) -}}
{{- $wrong = append $wrong "prometheusRule.enabled: the alerts need serviceMonitor.enabled or podMonitor.enabled, which give the job its name" -}}
{{- end -}}

{{- if $values.externalSecrets.enabled -}}
{{- if eq $values.migrations.mode "hook" -}}
{{- $wrong = append $wrong "externalSecrets.enabled: the Job of migrations.mode=hook would wait for a Secret that is made after it; set migrations.mode to initContainer" -}}
{{- end -}}
{{- if not (or $values.externalSecrets.database $values.externalSecrets.tokens $values.externalSecrets.bootstrap $values.externalSecrets.clients) -}}
{{- $wrong = append $wrong "externalSecrets: name at least one key of database, tokens, bootstrap and clients" -}}
{{- end -}}
{{- if not $values.externalSecrets.storeRef.name -}}
{{- $wrong = append $wrong "externalSecrets.storeRef.name: name the store" -}}
{{- end -}}
{{- range $section := list "database" "tokens" "bootstrap" "clients" -}}
{{- if and (index $values.externalSecrets $section) (not (index $values $section).existingSecret) -}}
{{- $wrong = append $wrong (printf "%s.existingSecret: name the Secret that externalSecrets.%s is written to" $section $section) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- with $wrong -}}
{{- fail (printf "\n\nclaviger: these values can't be used:\n- %s\n" (join "\n- " .)) -}}
{{- end -}}
{{- end }}

{{/* A quantity of memory in KiB, rounded down. The schema has seen to its form. */}}
{{- define "claviger.kib" -}}
{{- $text := toString . -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- divf (mulf (trimSuffix $unit $text | float64) (get $units $unit)) 1024 | floor | int64 -}}
{{- end }}
