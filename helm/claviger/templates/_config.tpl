{{/* The configuration of the service: what `config` says, and what the chart sets itself. As JSON. */}}
{{- define "claviger.config" -}}
{{- $config := .Values.config -}}
{{- if kindIs "string" $config -}}
{{- $config = fromToml $config -}}
{{- else -}}
{{- $config = deepCopy $config -}}
{{- end -}}
{{- $server := dict
    "listen" (printf "%s:8000" .Values.bindAddress)
    "ops_listen" (printf "%s:9000" .Values.bindAddress)
    "base_path" .Values.basePath
    "trusted_proxies" .Values.trustedProxies
    "shutdown_grace" (printf "%ds" (int .Values.shutdown.drainSeconds)) -}}
{{- $_ := set $config "server" (merge $server ($config.server | default dict)) -}}
{{- if .Values.database.host -}}
{{- $url := printf "postgres://%s:%d/%s" .Values.database.host (int .Values.database.port) .Values.database.name -}}
{{- with .Values.database.parameters }}{{ $url = printf "%s?%s" $url . }}{{ end -}}
{{- $_ := set $config "database" (merge (dict "url" $url) ($config.database | default dict)) -}}
{{- end -}}
{{- if .Values.tokens.host -}}
{{- $url := printf "%s://%s:%d/%d" (ternary "rediss" "redis" .Values.tokens.tls) .Values.tokens.host (int .Values.tokens.port) (int .Values.tokens.database) -}}
{{- $_ := set $config "tokens" (merge (dict "url" $url) ($config.tokens | default dict)) -}}
{{- end -}}
{{- toJson $config -}}
{{- end }}

{{/* The same as TOML. Sections are one level deep, and JSON's strings and lists are TOML's too. Numbers are integers, which
Helm may hold as floating-point ones. */}}
{{- define "claviger.toml" -}}
{{- $config := include "claviger.config" . | fromJson -}}
{{- range $key, $value := $config }}
{{- if not (kindIs "map" $value) }}
{{ $key }} = {{ include "claviger.tomlValue" $value }}
{{- end }}
{{- end }}
{{- range $section, $keys := $config }}
{{- if kindIs "map" $keys }}

[{{ $section }}]
{{- range $key, $value := $keys }}
{{ $key }} = {{ include "claviger.tomlValue" $value }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "claviger.tomlValue" -}}
{{- /* Neither YAML nor TOML take a DEL as it is, which JSON does. */ -}}
{{- if kindIs "float64" . }}{{ int64 . }}{{ else }}{{ toJson . | replace "\x7f" "\\u007f" }}{{ end }}
{{- end }}

{{/* Which files of which Secrets a container reads: root, sections. A list of maps with secret, key, path and variable. */}}
{{- define "claviger.secretFiles" -}}
{{- $root := index . 0 -}}
{{- $files := list -}}
{{- range $name := ternary $root.Values.clients.names list (has "clients" (index . 1)) -}}
{{- $files = append $files (dict
    "secret" $root.Values.clients.existingSecret
    "key" $name
    "path" (printf "clients-%s-secret" $name)
    "variable" (printf "CLAVIGER_CLIENTS__%s__SECRET_FILE" (upper $name))) -}}
{{- end -}}
{{- range $section := without (index . 1) "otlp" "clients" -}}
{{- $values := index $root.Values $section -}}
{{- $parts := list "username" "password" -}}
{{- if and (ne $section "bootstrap") (not $values.host) }}{{ $parts = list "url" }}{{ end -}}
{{- range $part := $parts -}}
{{- $key := get $values.keys $part -}}
{{- if and $values.existingSecret $key -}}
{{- $files = append $files (dict
    "secret" $values.existingSecret
    "key" $key
    "path" (printf "%s-%s" $section $part)
    "variable" (printf "CLAVIGER_%s__%s_FILE" (upper $section) (upper $part))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $files -}}
{{- end }}
