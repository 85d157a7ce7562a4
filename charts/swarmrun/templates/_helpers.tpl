{{- define "swarmrun.fullname" -}}
{{- if contains "swarmrun" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-swarmrun" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "swarmrun.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "swarmrun.fullname" .) }}{{ else }}{{ required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- define "swarmrun.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "swarmrun.claim" -}}
{{ .Values.persistence.existingClaim | default (printf "%s-state" (include "swarmrun.fullname" .)) }}
{{- end }}

{{/* What selects the operator's Pods, for Deployments and for the sandboxes' policies: never changes. */}}
{{- define "swarmrun.selector" -}}
app.kubernetes.io/name: swarmrun-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "swarmrun.labels" -}}
{{ include "swarmrun.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Stays when the release goes, and when Argo CD prunes (which does not look at Helm's word for it). */}}
{{- define "swarmrun.keep" -}}
helm.sh/resource-policy: keep
argocd.argoproj.io/sync-options: Prune=false
{{- end }}

{{/* Nothing inside of the cluster goes through a proxy: API server, sandboxes and git Pods by address or name. */}}
{{- define "swarmrun.noProxy" -}}
{{- $always := list "localhost" "127.0.0.1" "::1" "$(KUBERNETES_SERVICE_HOST)" "kubernetes" ".svc" ".cluster.local" "10.0.0.0/8" "172.16.0.0/12" "192.168.0.0/16" "100.64.0.0/10" "169.254.169.254" "fc00::/7" }}
{{- concat $always .Values.proxy.noProxy | uniq | join "," }}
{{- end }}

{{/* Both spellings: curl and gRPC read the small one, some the other. */}}
{{- define "swarmrun.proxyEnv" -}}
{{- $proxies := dict "HTTP_PROXY" .Values.proxy.http "HTTPS_PROXY" .Values.proxy.https }}
{{- if or .Values.proxy.http .Values.proxy.https }}
{{- $_ := set $proxies "NO_PROXY" (include "swarmrun.noProxy" .) }}
{{- end }}
{{- range $name, $value := $proxies }}
{{- if $value }}
- {name: {{ $name }}, value: {{ $value | quote }}}
- {name: {{ lower $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "swarmrun.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "swarmrun.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where a Pod may run. */}}
{{- define "swarmrun.scheduling" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
The Pod of one role. Given: root, role, resources, grace.
Role `check` looks at the installation as a worker would and ends; it is given `checks`.
*/}}
{{- define "swarmrun.pod" -}}
{{- $ := .root }}
{{- $embedded := eq $.Values.engine.type "embedded" }}
{{- $check := eq .role "check" }}
metadata:
  labels:
    {{- include "swarmrun.selector" $ | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
    {{- if $.Values.azure.workloadIdentity.enabled }}
    azure.workload.identity/use: "true"
    {{- end }}
    {{- with $.Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with $.Values.podAnnotations }}
  annotations: {{ toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "swarmrun.serviceAccount" $ }}
  terminationGracePeriodSeconds: {{ .grace }}
  enableServiceLinks: false
  {{- if $check }}
  restartPolicy: Never
  {{- end }}
  {{- with include "swarmrun.scheduling" $ }}{{ . | nindent 2 }}{{ end }}
  securityContext: {{ include "swarmrun.podSecurity" $ | nindent 4 }}
  containers:
    - name: operator
      image: {{ include "swarmrun.image" $ }}
      imagePullPolicy: {{ $.Values.image.pullPolicy }}
      args: {{ if $check }}[--check, {{ .checks | quote }}]{{ else }}[--role, {{ .role }}]{{ end }}
      env:
        - {name: SWARMRUN_STATE, value: /var/lib/swarmrun/state}
        - {name: SWARMRUN_ENGINE, value: {{ $.Values.engine.type }}}
        {{- if not $embedded }}
        - {name: SWARMRUN_DTS_ENDPOINT, value: {{ required "engine.dts.endpoint is needed for engine.type dts" $.Values.engine.dts.endpoint | quote }}}
        - {name: SWARMRUN_DTS_TASKHUB, value: {{ $.Values.engine.dts.taskHub | quote }}}
        - {name: SWARMRUN_LEASE, value: {{ include "swarmrun.fullname" $ }}-controller}
        {{- end }}
        {{- if or (not $embedded) $.Values.artifacts.url }}
        - {name: SWARMRUN_ARTIFACTS, value: {{ required "artifacts.url is needed for engine.type dts: its Pods share no volume" $.Values.artifacts.url | quote }}}
        {{- end }}
        {{- if $.Values.masterKey.existingSecret }}
        - {name: SWARMRUN_MASTER_KEY_FILE, value: /var/run/swarmrun/{{ $.Values.masterKey.key }}}
        {{- else if not $embedded }}
        {{- fail "masterKey.existingSecret is needed for engine.type dts: all workers derive sandboxes' tokens from the same key" }}
        {{- end }}
        - {name: SWARMRUN_SANDBOXES, value: pod}
        - {name: SWARMRUN_SANDBOX_IMAGE, value: {{ $.Values.sandbox.image | quote }}}
        - {name: SWARMRUN_SANDBOX_PULL_POLICY, value: {{ $.Values.sandbox.pullPolicy }}}
        - {name: SWARMRUN_SANDBOX_PULL_SECRETS, value: {{ join "," $.Values.sandbox.pullSecrets | quote }}}
        - {name: SWARMRUN_OPERATOR_IMAGE, value: {{ include "swarmrun.image" $ | quote }}}
        - {name: SWARMRUN_BRAIN_LABELS, value: "app.kubernetes.io/name=swarmrun-operator,app.kubernetes.io/instance={{ $.Release.Name }}"}
        - {name: SWARMRUN_NAMESPACES, value: {{ join "," $.Values.watchNamespaces | quote }}}
        - {name: SWARMRUN_MAX_SANDBOXES, value: {{ $.Values.maxSandboxes | int | quote }}}
        - {name: SWARMRUN_READ_PORT, value: {{ $.Values.readInterface.enabled | ternary "8082" "0" | quote }}}
        - {name: SWARMRUN_WORKER_THREADS, value: {{ $.Values.threads | quote }}}
        - {name: SWARMRUN_LOG, value: {{ $.Values.logLevel }}}
        - {name: SWARMRUN_LOG_FORMAT, value: {{ $.Values.logFormat }}}
        - {name: SWARMRUN_METRICS_PORT, value: {{ $.Values.metrics.enabled | ternary "8081" "0" | quote }}}
        {{- with $.Values.tracing.endpoint }}
        - {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
        {{- with $.Values.tracing.headersSecret }}
        - name: OTEL_EXPORTER_OTLP_HEADERS
          valueFrom: {secretKeyRef: {name: {{ . }}, key: headers}}
        {{- end }}
        {{- end }}
        {{- if eq .role "worker" }}
        # What is left of the Pod's grace is for cutting off and giving back.
        - {name: SWARMRUN_GRACE_SECONDS, value: {{ sub .grace 15 | quote }}}
        {{- end }}
        {{- if $check }}
        - {name: SWARMRUN_PROBES, value: "http://{{ include "swarmrun.fullname" $ }}-probes.{{ $.Release.Namespace }}.svc:8080"}
        {{- end }}
        {{- if $.Values.caBundle.configMap }}
        - {name: SWARMRUN_CA_BUNDLE, value: /etc/swarmrun/ca/{{ $.Values.caBundle.key }}}
        {{- end }}
        {{- with include "swarmrun.proxyEnv" $ }}{{ . | nindent 8 }}{{ end }}
        - name: SWARMRUN_NAMESPACE
          valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
        - name: SWARMRUN_IDENTITY
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - {name: HOME, value: /tmp}
        {{- with $.Values.extraEnv }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- if and $.Values.modelKeys.existingSecret (ne .role "controller") }}
      envFrom:
        - secretRef: {name: {{ $.Values.modelKeys.existingSecret }}}
      {{- end }}
      {{- if not $check }}
      ports:
        - {name: probes, containerPort: 8080}
        {{- if and $.Values.readInterface.enabled (ne .role "worker") }}
        - {name: read, containerPort: 8082}
        {{- end }}
        {{- if $.Values.metrics.enabled }}
        - {name: metrics, containerPort: 8081}
        {{- end }}
      # An engine reads its whole file when it begins.
      startupProbe:
        httpGet: {path: /healthz, port: probes}
        periodSeconds: 2
        failureThreshold: 90
      livenessProbe:
        httpGet: {path: /healthz, port: probes}
        periodSeconds: 20
        timeoutSeconds: 10
        failureThreshold: 3
      {{- if ne .role "worker" }}
      # Not ready while it waits for its engine: no restart would help.
      readinessProbe:
        httpGet: {path: /readyz, port: probes}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      {{- end }}
      {{- end }}
      resources: {{ toYaml .resources | nindent 8 }}
      securityContext: {{ include "swarmrun.containerSecurity" $ | nindent 8 }}
      volumeMounts:
        - {name: state, mountPath: /var/lib/swarmrun}
        - {name: tmp, mountPath: /tmp}
        {{- if $.Values.masterKey.existingSecret }}
        - {name: master-key, mountPath: /var/run/swarmrun, readOnly: true}
        {{- end }}
        {{- if $.Values.caBundle.configMap }}
        - {name: ca-bundle, mountPath: /etc/swarmrun/ca, readOnly: true}
        {{- end }}
        {{- with $.Values.extraVolumeMounts }}{{ toYaml . | nindent 8 }}{{ end }}
  volumes:
    - name: state
      {{- if and $embedded $.Values.persistence.enabled (not $check) }}
      persistentVolumeClaim: {claimName: {{ include "swarmrun.claim" $ }}}
      {{- else }}
      emptyDir: {}
      {{- end }}
    - name: tmp
      emptyDir: {}
    {{- if $.Values.masterKey.existingSecret }}
    - name: master-key
      secret: {secretName: {{ $.Values.masterKey.existingSecret }}, defaultMode: 0440}
    {{- end }}
    {{- if $.Values.caBundle.configMap }}
    - name: ca-bundle
      configMap: {name: {{ $.Values.caBundle.configMap }}, items: [{key: {{ $.Values.caBundle.key }}, path: {{ $.Values.caBundle.key }}}]}
    {{- end }}
    {{- with $.Values.extraVolumes }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end }}
