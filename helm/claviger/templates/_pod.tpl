{{/* What all pods have in common: root. */}}
{{- define "claviger.podDefaults" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- if kindIs "bool" .Values.hostUsers }}
hostUsers: {{ .Values.hostUsers }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{/* The start of every container: root, name, arguments, what it is given (database, tokens, bootstrap, clients, otlp). */}}
{{- define "claviger.container" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}
image: {{ include "claviger.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
args: {{ index . 2 | toJson }}
securityContext:
  {{- toYaml $root.Values.securityContext | nindent 2 }}
env:
  - {name: CLAVIGER_CONFIG, value: /etc/claviger/claviger.toml}
  # The image says so for itself, and the environment wins over the file.
  - {name: CLAVIGER_SERVER__OPS_LISTEN, value: {{ printf "%s:9000" $root.Values.bindAddress | quote }}}
  {{- range include "claviger.secretFiles" (list $root (index . 3)) | fromJsonArray }}
  - {name: {{ .variable }}, value: /run/secrets/claviger/{{ .path }}}
  {{- end }}
  {{- if and (has "bootstrap" (index . 3)) $root.Values.bootstrap.existingSecret }}
  - {name: CLAVIGER_BOOTSTRAP__USERNAME, value: {{ $root.Values.bootstrap.username | quote }}}
  {{- end }}
  {{- if and (has "otlp" (index . 3)) $root.Values.otlp.endpoint }}
  {{- include "claviger.otlp" $root | nindent 2 }}
  {{- end }}
  {{- with $root.Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $root.Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - {name: config, mountPath: /etc/claviger, readOnly: true}
  - {name: secrets, mountPath: /run/secrets/claviger, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  {{- with $root.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "claviger.otlp" -}}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .Values.otlp.endpoint | quote }}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ printf "k8s.namespace.name=%s,k8s.pod.name=$(POD_NAME),service.version=%s" .Release.Namespace .Chart.AppVersion | quote }}
{{- with .Values.otlp.headersSecret }}
# The standard knows no file for it.
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: headers}}
{{- end }}
{{- end }}

{{/* The volumes of a pod: root, name of the ConfigMap, sections whose secrets are mounted. */}}
{{- define "claviger.volumes" -}}
{{- $root := index . 0 -}}
- name: config
  configMap:
    name: {{ index . 1 }}
- name: secrets
  projected:
    # Readable by the group of fsGroup, and by nobody else.
    defaultMode: 0440
    sources:
      {{- range include "claviger.secretFiles" (list $root (index . 2)) | fromJsonArray }}
      - secret:
          name: {{ .secret | quote }}
          items:
            - {key: {{ .key | quote }}, path: {{ .path }}}
      {{- end }}
- name: tmp
  emptyDir:
    sizeLimit: 16Mi
{{- with $root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
