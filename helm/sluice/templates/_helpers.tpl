{{/* Names, labels and the parts that every pod has in common. */}}

{{- define "sluice.name" -}}
{{- if contains "sluice" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-sluice" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "sluice.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{/* Takes (list root component). */}}
{{- define "sluice.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The same in one line. */}}
{{- define "sluice.match" -}}
{{ include "sluice.selector" . | fromYaml | toJson }}
{{- end }}

{{- define "sluice.labels" -}}
{{- $root := index . 0 -}}
{{ include "sluice.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{- define "sluice.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "sluice.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: { drop: [ ALL ] }
{{- end }}

{{- define "sluice.spread" -}}
- maxSkew: 1
  topologyKey: topology.kubernetes.io/zone
  whenUnsatisfiable: ScheduleAnyway
  labelSelector: { matchLabels: {{ include "sluice.match" . }} }
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector: { matchLabels: {{ include "sluice.match" . }} }
{{- end }}

{{/* The configuration with what only the pod knows. An address of version 6 is bracketed, as host:port wants it. */}}
{{- define "sluice.configure" -}}
- name: configure
  image: {{ include "sluice.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command:
    - /bin/sh
    - -ec
    - |
      bracketed() { case "$1" in *:*) echo "[$1]" ;; *) echo "$1" ;; esac; }
      sed -e "s|[$]{POD_NAME}|$POD_NAME|g" -e "s|[$]{POD_IP}|$(bracketed "$POD_IP")|g" -e "s|[$]{NODE_IP}|$(bracketed "$NODE_IP")|g" \
        /etc/sluice/template/config.yaml > /etc/sluice/config/config.yaml
  env:
    - { name: POD_NAME, valueFrom: { fieldRef: { fieldPath: metadata.name } } }
    - { name: POD_IP, valueFrom: { fieldRef: { fieldPath: status.podIP } } }
    - { name: NODE_IP, valueFrom: { fieldRef: { fieldPath: status.hostIP } } }
  securityContext: {{- include "sluice.containerSecurity" . | nindent 4 }}
  resources: { requests: { cpu: 10m, memory: 16Mi }, limits: { memory: 32Mi } }
  volumeMounts:
    - { name: template, mountPath: /etc/sluice/template, readOnly: true }
    - { name: config, mountPath: /etc/sluice/config }
{{- end }}

{{/* Probes of the operations listener. */}}
{{- define "sluice.probes" -}}
livenessProbe:
  httpGet: { path: /healthz, port: operations }
  initialDelaySeconds: 5
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /readyz, port: operations }
  periodSeconds: 3
  timeoutSeconds: 4
  failureThreshold: 2
{{- end }}

{{/* Takes (list root component); volumes that every pod has. */}}
{{- define "sluice.volumes" -}}
{{- $root := index . 0 -}}
- { name: template, configMap: { name: {{ include "sluice.name" $root }}-{{ index . 1 }} } }
- { name: config, emptyDir: { sizeLimit: 1Mi } }
- { name: run, emptyDir: { medium: Memory, sizeLimit: 1Mi } }
- { name: tmp, emptyDir: { sizeLimit: 64Mi } }
{{- end }}

{{- define "sluice.mounts" -}}
- { name: config, mountPath: /etc/sluice/config, readOnly: true }
- { name: data, mountPath: /var/lib/sluice }
- { name: run, mountPath: /run/sluice }
- { name: tmp, mountPath: /tmp }
{{- end }}

{{/* Where nodes find the control planes. */}}
{{- define "sluice.controlPlanes" -}}
{{- $name := printf "%s-control-plane" (include "sluice.name" .) -}}
{{- range $at := until (int .Values.controlPlane.replicas) }}
- "{{ $name }}-{{ $at }}.{{ $name }}.{{ $.Release.Namespace }}.svc:7443"
{{- end }}
{{- end }}

{{/* The section `node` of a node that joins. Takes (list root role). */}}
{{- define "sluice.node" -}}
{{- $root := index . 0 -}}
node:
  name: ${POD_NAME}
  {{- with $root.Values.region }}
  region: {{ . | quote }}
  {{- end }}
  controlPlanes: {{- include "sluice.controlPlanes" $root | trim | nindent 4 }}
  {{- if eq $root.Values.join.method "workload" }}
  join: { workloadTokenFile: /var/run/secrets/sluice/join/token, caFile: /var/run/secrets/sluice/ca/ca.pem }
  {{- else }}
  join: { tokenFile: "/var/run/secrets/sluice/join/${POD_NAME}" }
  {{- end }}
{{- end }}

{{/* Takes (list root role). */}}
{{- define "sluice.joinVolumes" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.join }}
{{- if eq .method "workload" }}
- name: join
  projected:
    sources:
      - serviceAccountToken: { audience: {{ .workload.audience | quote }}, expirationSeconds: {{ .workload.tokenSeconds }}, path: token }
- { name: ca, configMap: { name: {{ .caConfigMap }}, items: [ { key: ca.pem, path: ca.pem } ] } }
{{- else }}
- name: join
  secret:
    secretName: {{ required (printf "join.tokenSecrets.%s is needed where join.method is token" (index $ 1)) (index .tokenSecrets (index $ 1)) }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- end }}

{{- define "sluice.joinMounts" -}}
- { name: join, mountPath: /var/run/secrets/sluice/join, readOnly: true }
{{- if eq .Values.join.method "workload" }}
- { name: ca, mountPath: /var/run/secrets/sluice/ca, readOnly: true }
{{- end }}
{{- end }}

{{/* The section `events`. */}}
{{- define "sluice.events" -}}
events:
  bus: nats
  {{- if .Values.events.servers }}
  servers: {{- toYaml .Values.events.servers | nindent 4 }}
  {{- else }}
  servers: [ "nats://{{ include "sluice.name" . }}-nats.{{ .Release.Namespace }}.svc:4222" ]
  {{- end }}
  {{- if .Values.events.caSecret.name }}
  caFile: /var/run/secrets/sluice/nats-ca/ca.crt
  {{- end }}
  {{- if .Values.events.credentialsSecret.name }}
  credentialsFile: /var/run/secrets/sluice/nats-credentials/nats.creds
  {{- end }}
  replicas: {{ .Values.events.replicas }}
  streamBytes: {{ int64 .Values.events.streamBytes }}
{{- end }}

{{- define "sluice.eventsVolumes" -}}
{{- if and (not .Values.events.servers) (not .Values.nats.enabled) }}{{ fail "events.servers is needed where nats.enabled is false" }}{{ end }}
{{- with .Values.events.caSecret }}{{- if .name }}
- { name: nats-ca, secret: { secretName: {{ .name }}, items: [ { key: {{ .key }}, path: ca.crt } ] } }
{{- end }}{{- end }}
{{- with .Values.events.credentialsSecret }}{{- if .name }}
- { name: nats-credentials, secret: { secretName: {{ .name }}, defaultMode: 0440, items: [ { key: {{ .key }}, path: nats.creds } ] } }
{{- end }}{{- end }}
{{- end }}

{{- define "sluice.eventsMounts" -}}
{{- if .Values.events.caSecret.name }}
- { name: nats-ca, mountPath: /var/run/secrets/sluice/nats-ca, readOnly: true }
{{- end }}
{{- if .Values.events.credentialsSecret.name }}
- { name: nats-credentials, mountPath: /var/run/secrets/sluice/nats-credentials, readOnly: true }
{{- end }}
{{- end }}

{{/* Sections that are the same everywhere. Takes (list root plane's-values). */}}
{{- define "sluice.commonConfig" -}}
{{- $root := index . 0 -}}
{{- $plane := index . 1 -}}
operations: { listen: "0.0.0.0:9464" }
{{- with $root.Values.telemetry.traces }}
telemetry: { traces: {{ . | quote }}, sample: {{ $root.Values.telemetry.sample }} }
{{- end }}
limits: {{- merge (dict "drainTimeoutMs" (mul $plane.drainSeconds 1000)) $plane.limits | toYaml | nindent 2 }}
{{- end }}

{{/* Names by which callers reach the gateways. */}}
{{- define "sluice.gatewayHosts" -}}
{{- $name := printf "%s-gateway" (include "sluice.name" .) -}}
{{- concat (list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) (printf "%s.%s.svc.%s" $name .Release.Namespace .Values.clusterDomain)) .Values.gateway.hosts | uniq | toYaml }}
{{- end }}

{{/* Scheduling of a pod. Takes (list root component plane's-values). */}}
{{- define "sluice.scheduling" -}}
{{- $plane := index . 2 -}}
topologySpreadConstraints: {{- include "sluice.spread" . | nindent 2 }}
{{- with $plane.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $plane.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $plane.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with (index . 0).Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
