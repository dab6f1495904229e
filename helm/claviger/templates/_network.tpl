{{/* Rules for what goes out: root, and a list of dns, database, tokens, otlp, extra. */}}
{{- define "claviger.egress" -}}
{{- $root := index . 0 -}}
{{- $values := $root.Values -}}
{{- $rules := list -}}
{{- range index . 1 -}}
{{- if eq . "dns" -}}
{{- $rules = append $rules (include "claviger.egressRule" (list $values.networkPolicy.dnsTo 53 (list "UDP" "TCP")) | fromJson) -}}
{{- else if eq . "database" -}}
{{- $rules = append $rules (include "claviger.egressRule" (list $values.networkPolicy.databaseTo $values.database.port (list "TCP")) | fromJson) -}}
{{- else if eq . "tokens" -}}
{{- $rules = append $rules (include "claviger.egressRule" (list $values.networkPolicy.tokensTo $values.tokens.port (list "TCP")) | fromJson) -}}
{{- else if and (eq . "otlp") $values.otlp.endpoint -}}
{{- $rules = append $rules (include "claviger.egressRule" (list $values.networkPolicy.otlpTo (include "claviger.otlpPort" $root) (list "TCP")) | fromJson) -}}
{{- else if eq . "extra" -}}
{{- $rules = concat $rules $values.networkPolicy.extraEgress -}}
{{- end -}}
{{- end -}}
{{- toYaml $rules -}}
{{- end }}

{{/* One of them: to whom (empty: anywhere), port, protocols. */}}
{{- define "claviger.egressRule" -}}
{{- $port := int (index . 1) -}}
{{- $ports := list -}}
{{- range index . 2 }}{{ $ports = append $ports (dict "port" $port "protocol" .) }}{{ end -}}
{{- $rule := dict "ports" $ports -}}
{{- with index . 0 }}{{ $_ := set $rule "to" . }}{{ end -}}
{{- toJson $rule -}}
{{- end }}
