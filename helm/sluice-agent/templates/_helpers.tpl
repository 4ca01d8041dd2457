{{- define "agent.name" -}}
{{- if contains "agent" .Release.Name }}{{ .Release.Name | trunc 48 | trimSuffix "-" }}{{ else }}{{ printf "%s-agent" .Release.Name | trunc 48 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "agent.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{- define "agent.selector" -}}
app.kubernetes.io/name: sluice-agent
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: agent
{{- end }}

{{- define "agent.labels" -}}
{{ include "agent.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "agent.match" -}}
{{ include "agent.selector" . | fromYaml | toJson }}
{{- end }}

{{- define "agent.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: { drop: [ ALL ] }
{{- end }}

{{/* Kubernetes' API is asked for secrets. */}}
{{- define "agent.readsKubernetes" -}}
{{- range .Values.secrets }}{{ if hasKey . "kubernetes" }}true{{ end }}{{ end }}
{{- end }}

{{/* It needs its account's token: for that, or to log in to a Vault with it. */}}
{{- define "agent.needsAccount" -}}
{{- include "agent.readsKubernetes" . }}
{{- range .Values.vaults }}{{ if hasKey .auth "kubernetes" }}true{{ end }}{{ end }}
{{- end }}

{{- define "agent.config" -}}
apiVersion: sluice/v1
kind: Config
node:
  name: ${POD_NAME}
  {{- with .Values.region }}
  region: {{ . | quote }}
  {{- end }}
  controlPlanes: {{- required "controlPlanes is needed: host:port of each control plane" .Values.controlPlanes | toYaml | nindent 4 }}
  {{- if eq .Values.join.method "workload" }}
  join: { workloadTokenFile: /var/run/secrets/sluice/join/token, caFile: /var/run/secrets/sluice/ca/ca.pem }
  {{- else }}
  join: { tokenFile: "/var/run/secrets/sluice/join/${POD_NAME}" }
  {{- end }}
agent:
  nearest: {{ .Values.nearest }}
  {{- with .Values.secrets }}
  secrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.vaults }}
  vaults: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if include "agent.readsKubernetes" . }}
  kubernetes: {}
  {{- end }}
operations: { listen: "0.0.0.0:9464" }
{{- with .Values.telemetry.traces }}
telemetry: { traces: {{ . | quote }}, sample: {{ $.Values.telemetry.sample }} }
{{- end }}
limits: {{- merge (dict "drainTimeoutMs" (mul .Values.drainSeconds 1000)) .Values.limits | toYaml | nindent 2 }}
{{- end }}
