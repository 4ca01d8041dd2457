{{- define "sluice.gatewayConfig" -}}
{{- $name := include "sluice.name" . -}}
{{- with .Values.gateway -}}
apiVersion: sluice/v1
kind: Config
{{ include "sluice.node" (list $ "gateway") }}
dataPlane:
  listeners:
    - protocol: postgres
      listen: 0.0.0.0:6432
      advertise: {{ .advertise.callers | default (printf "%s-gateway.%s.svc:%v" $name $.Release.Namespace .service.port) | quote }}
      {{- with .proxyProtocolFrom }}
      proxyProtocolFrom: {{- toYaml . | nindent 8 }}
      {{- end }}
  {{- if .tlsSecret }}
  tls: { certFile: /var/run/secrets/sluice/tls/tls.crt, keyFile: /var/run/secrets/sluice/tls/tls.key }
  {{- else }}
  tls:
    mode: self-signed
    hosts: {{- include "sluice.gatewayHosts" $ | nindent 6 }}
  {{- end }}
  links:
    control: 0.0.0.0:7444
    sessions: 0.0.0.0:7445
    advertise: { control: {{ .advertise.control | quote }}, sessions: {{ .advertise.sessions | quote }} }
{{ include "sluice.events" $ }}
{{ include "sluice.commonConfig" (list $ .) }}
{{- end }}
{{- end }}
