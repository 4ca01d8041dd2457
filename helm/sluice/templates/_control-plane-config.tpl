{{- define "sluice.controlPlaneConfig" -}}
{{- $name := include "sluice.name" . -}}
{{- with .Values.controlPlane -}}
apiVersion: sluice/v1
kind: Config
controlPlane:
  {{- if .store.url }}
  store: {{ .store.url | quote }}
  {{- else if $.Values.postgresql.enabled }}
  store: "postgres://sluice@{{ $name }}-postgresql.{{ $.Release.Namespace }}.svc/sluice"
  {{- else }}
  {{- fail "controlPlane.store.url is needed where postgresql.enabled is false" }}
  {{- end }}
  listen: 127.0.0.1:6544
  {{- with .adminHosts }}
  hosts: {{- toYaml . | nindent 4 }}
  {{- end }}
  developmentIssuer: false
  nodes:
    listen: 0.0.0.0:7443
    hosts:
      - "${POD_NAME}.{{ $name }}-control-plane.{{ $.Release.Namespace }}.svc"
      {{- range .nodesHosts }}
      - {{ . | quote }}
      {{- end }}
  encryptionKey: { file: /var/run/secrets/sluice/store-key/store-key }
  lease: { policy: {{ .lease.policy }}, strict: {{ .lease.strict }} }
  {{- if or (eq $.Values.join.method "workload") .agents .extraWorkloads }}
  workloads:
    {{- if eq $.Values.join.method "workload" }}
    - name: gateways
      role: gateway
      claims: { sub: "system:serviceaccount:{{ $.Release.Namespace }}:{{ $name }}-gateway" }
      namePrefix: {{ $name }}-gateway-
      {{- with $.Values.gateway.labels }}
      labels: {{- toYaml . | nindent 8 }}
      {{- end }}
      hosts: {{- include "sluice.gatewayHosts" $ | nindent 8 }}
      {{- include "sluice.workloadIssuer" $ | nindent 6 }}
    - name: recorder
      role: recorder
      claims: { sub: "system:serviceaccount:{{ $.Release.Namespace }}:{{ $name }}-recorder" }
      namePrefix: {{ $name }}-recorder-
      hosts: [ "{{ $name }}-recorder-0.{{ $name }}-recorder.{{ $.Release.Namespace }}.svc" ]
      {{- include "sluice.workloadIssuer" $ | nindent 6 }}
    {{- end }}
    {{- range .agents }}
    - name: {{ .name }}
      role: agent
      claims: { sub: "system:serviceaccount:{{ .namespace }}:{{ .serviceAccount }}" }
      namePrefix: {{ .namePrefix }}
      {{- with .labels }}
      labels: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- include "sluice.workloadIssuer" $ | nindent 6 }}
    {{- end }}
    {{- with .extraWorkloads }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
{{ include "sluice.events" $ }}
{{ include "sluice.commonConfig" (list $ .) }}
{{- if or .manifests .manifestsConfigMap }}
manifests: [ /etc/sluice/manifests ]
{{- end }}
{{- end }}
{{- end }}

{{- define "sluice.workloadIssuer" -}}
{{- with .Values.join.workload -}}
issuer: {{ .issuer | quote }}
audience: {{ .audience | quote }}
{{- with .jwksUri }}
jwksUri: {{ . | quote }}
{{- end }}
{{- if .inCluster }}
caFile: /var/run/secrets/sluice/kube-api/ca.crt
tokenFile: /var/run/secrets/sluice/kube-api/token
{{- end }}
{{- end }}
{{- end }}
