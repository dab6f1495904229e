{{/* Rules for what goes out: root, and a list of dns, database, tokens, otlp, extra. */}}
{{- define "claviger.egress" -}}
{{- $root := index . 0 -}}
{{- $values := $root.Values -}}
{{- $rules := list -}}
{{- range index . 1 -}}
{{- if eq . "dns" -}}
{{- $rules = append $rules (include "claviger.egressRule" (list $values.networkPolicy.dnsTo (list 53 5353) (list "UDP" "TCP")) | fromJson) -}}
{{- else if eq . "database" -}}
{{- $rules = append $rules (include "claviger.egressRule" (list $values.networkPolicy.databaseTo (list $values.database.port) (list "TCP")) | fromJson) -}}
{{- else if eq . "tokens" -}}
{{- $rules = append $rules (include "claviger.egressRule" (list $values.networkPolicy.tokensTo (list $values.tokens.port) (list "TCP")) | fromJson) -}}
{{- else if and (eq . "otlp") $values.otlp.endpoint -}}
{{- $rules = append $rules (include "claviger.egressRule" (list $values.networkPolicy.otlpTo (list (include "claviger.otlpPort" $root)) (list "TCP")) | fromJson) -}}
{{- else if eq . "extra" -}}
{{- $rules = concat $rules $values.networkPolicy.extraEgress -}}
{{- end -}}
{{- end -}}
{{- toYaml $rules -}}
{{- end }}

{{/* One of them: to whom (empty: anywhere), ports, protocols. A policy sees the port of the pod behind a Service, which for the
name server of OpenShift is 5353. */}}
{{- define "claviger.egressRule" -}}
{{- $given := . -}}
{{- $ports := list -}}
{{- range $port := index . 1 -}}
{{- range index $given 2 }}{{ $ports = append $ports (dict "port" (int $port) "protocol" .) }}{{ end -}}
{{- end -}}
{{- $rule := dict "ports" $ports -}}
{{- with index . 0 }}{{ $_ := set $rule "to" . }}{{ end -}}
{{- toJson $rule -}}
{{- end }}
