{{/* Names. Of 63 characters 18 are left for what is put behind: "-migrate-" and eight of a hash, and one to spare. */}}
{{- define "claviger.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 45 | trimAll "-." }}
{{- end }}

{{- define "claviger.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = .Release.Name -}}
{{- if not (contains (include "claviger.name" .) $name) }}{{ $name = printf "%s-%s" $name (include "claviger.name" .) }}{{ end -}}
{{- end -}}
{{- /* A release may have dots in its name, a Service may not. */ -}}
{{- $name | replace "." "-" | trunc 45 | trimAll "-" }}
{{- end }}

{{- define "claviger.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "claviger.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{/* Labels. `component` is server, migrate or test; it keeps the pods of the Service, the policies and the budget apart. */}}
{{- define "claviger.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "claviger.name" $root | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* root, component, further labels (a map). Nobody's labels replace ours, on which selectors depend. */}}
{{- define "claviger.labels" -}}
{{- $root := index . 0 -}}
{{- $labels := include "claviger.selectorLabels" . | fromYaml -}}
{{- $_ := set $labels "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $labels "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $labels "app.kubernetes.io/part-of" "claviger" -}}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- toYaml (merge $labels (index . 2) $root.Values.commonLabels) -}}
{{- end }}

{{/* `metadata` of an object: root, component, what its name ends with, its own annotations, its own labels (maps). */}}
{{- define "claviger.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "claviger.fullname" $root }}{{ index . 2 }}
namespace: {{ $root.Release.Namespace | quote }}
labels:
  {{- include "claviger.labels" (list $root (index . 1) (index . 4)) | nindent 2 }}
{{- with merge (dict) (index . 3) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "claviger.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* CPU in thousandths. */}}
{{- define "claviger.millis" -}}
{{- $text := toString . -}}
{{- if hasSuffix "m" $text }}{{ trimSuffix "m" $text }}{{ else }}{{ mulf ($text | float64) 1000 | int64 }}{{ end }}
{{- end }}

{{/* The port of the collector. A URL without one means that of its scheme. */}}
{{- define "claviger.otlpPort" -}}
{{- $url := urlParse .Values.otlp.endpoint -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" (eq $url.scheme "https")) }}
{{- end }}
