{{- define "sluice.recorderConfig" -}}
{{- $name := include "sluice.name" . -}}
apiVersion: sluice/v1
kind: Config
{{ include "sluice.node" (list . "recorder") }}
recorder:
  store: file:recordings
  listen: 0.0.0.0:7446
  advertise: "${POD_NAME}.{{ $name }}-recorder.{{ .Release.Namespace }}.svc:7446"
{{ include "sluice.events" . }}
{{ include "sluice.commonConfig" (list . .Values.recorder) }}
{{- end }}
