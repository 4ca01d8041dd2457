{{/* Rules that several network policies have. */}}

{{- define "sluice.monitoringIngress" -}}
# Health and metrics have no authentication.
- ports: [ { port: operations, protocol: TCP } ]
  {{- with .Values.networkPolicies.monitoringFrom }}
  from: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "sluice.commonEgress" -}}
- ports: [ { port: 53, protocol: UDP }, { port: 53, protocol: TCP } ]
{{- if .Values.telemetry.traces }}
- ports: [ { port: {{ .Values.networkPolicies.tracesPort }}, protocol: TCP } ]
  {{- with .Values.networkPolicies.tracesTo }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "sluice.controlPlaneEgress" -}}
- ports: [ { port: 7443, protocol: TCP } ]
  to: [ { podSelector: { matchLabels: {{ include "sluice.match" (list . "control-plane") }} } } ]
{{- end }}

{{- define "sluice.natsEgress" -}}
- ports: [ { port: {{ .Values.networkPolicies.natsPort }}, protocol: TCP } ]
  {{- if .Values.networkPolicies.natsTo }}
  to: {{- toYaml .Values.networkPolicies.natsTo | nindent 4 }}
  {{- else if and .Values.nats.enabled (not .Values.events.servers) }}
  to: [ { podSelector: { matchLabels: {{ include "sluice.match" (list . "nats") }} } } ]
  {{- end }}
{{- end }}

{{/* Keys of identity providers, and of the cluster's service accounts. */}}
{{- define "sluice.identityEgress" -}}
- ports:
    {{- range .Values.networkPolicies.httpsPorts }}
    - { port: {{ . }}, protocol: TCP }
    {{- end }}
  {{- with .Values.networkPolicies.identityProvidersTo }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
