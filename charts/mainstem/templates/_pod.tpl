{{- /*
The pod of one component. Takes a dict: root, component, role (the command), part (its values), tasks (whether it runs
tasks), api (whether it serves the API), homeClaim (the volume claim of its home, if it is there already).
*/ -}}
{{- define "mainstem.pod" -}}
{{- $root := .root -}}
{{- $part := .part -}}
metadata:
  labels:
    {{- include "mainstem.selector" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
    {{- with $root.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: mainstem
    checksum/settings: {{ toYaml $root.Values.settings | sha256sum }}
    {{- with $part.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- if .tasks }}
  serviceAccountName: {{ include "mainstem.taskAccount" $root }}
  automountServiceAccountToken: {{ $root.Values.kubernetesRunner.enabled }}
  {{- else }}
  automountServiceAccountToken: false
  {{- end }}
  enableServiceLinks: false
  # What runs may end for the grace period; bodies are ended after it, and everything is written.
  terminationGracePeriodSeconds: {{ add (int $part.gracePeriodS) 40 }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml $root.Values.podSecurityContext | nindent 4 }}
  containers:
    - name: mainstem
      image: {{ include "mainstem.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args:
        - {{ .role }}
      env:
        {{- include "mainstem.env" . | nindent 8 }}
      {{- with $root.Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        {{- if .api }}
        - {name: http, containerPort: 8420}
        {{- end }}
        - {name: health, containerPort: 8421}
      # The start may take a migration (standalone) or wait for the database.
      startupProbe:
        httpGet: {path: /health/live, port: health}
        periodSeconds: 2
        failureThreshold: 150
      livenessProbe:
        httpGet: {path: /health/live, port: health}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /health/ready, port: health}
        periodSeconds: 5
        timeoutSeconds: 5
      {{- if .api }}
      lifecycle:
        # Until the address has left the load balancers.
        preStop: {sleep: {seconds: 5}}
      {{- end }}
      resources:
        {{- toYaml $part.resources | nindent 8 }}
      securityContext:
        {{- toYaml $root.Values.securityContext | nindent 8 }}
      volumeMounts:
        - {name: settings, mountPath: /etc/mainstem, readOnly: true}
        - {name: home, mountPath: /var/lib/mainstem}
        - {name: work, mountPath: /var/lib/mainstem-work}
        - {name: tmp, mountPath: /tmp}
        {{- if include "mainstem.sharesFiles" $root }}
        - {name: files, mountPath: /srv/mainstem/files}
        {{- end }}
        {{- with $root.Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: settings
      configMap: {name: {{ include "mainstem.fullname" $root }}}
    {{- if .homeClaim }}
    - name: home
      persistentVolumeClaim: {claimName: {{ .homeClaim }}}
    {{- else if ne .role "up" }}
    - {name: home, emptyDir: {}}
    {{- end }}
    - name: work
      {{- toYaml $root.Values.workVolume | nindent 6 }}
    - {name: tmp, emptyDir: {}}
    {{- if include "mainstem.sharesFiles" $root }}
    - name: files
      persistentVolumeClaim: {claimName: {{ include "mainstem.storageClaim" $root }}}
    {{- end }}
    {{- with $root.Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  topologySpreadConstraints:
    {{- with $root.Values.topologySpreadConstraints }}
    {{- toYaml . | nindent 4 }}
    {{- else }}
    {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "mainstem.selector" $root | nindent 10 }}
          app.kubernetes.io/component: {{ $.component }}
    {{- end }}
    {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" }}
  {{- with index $part $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end -}}

{{- define "mainstem.sharesFiles" -}}
{{- if and (eq .Values.mode "distributed") (not .Values.storage.url) -}}yes{{- end -}}
{{- end -}}

{{- define "mainstem.env" -}}
{{- $root := .root -}}
{{- $part := .part -}}
- {name: MAINSTEM_SETTINGS, value: /etc/mainstem/mainstem.yaml}
# Folders below the mounts: the process makes them its own, the mounts belong to the cluster.
- {name: MAINSTEM_HOME, value: /var/lib/mainstem/home}
- {name: MAINSTEM_WORK, value: /var/lib/mainstem-work/bodies}
- {name: MAINSTEM_HOST, value: {{ $root.Values.host | quote }}}
- {name: MAINSTEM_PORT, value: "8420"}
- {name: MAINSTEM_HEALTH_PORT, value: "8421"}
# TLS ends at the ingress in front.
- {name: MAINSTEM_INSECURE, value: "true"}
- {name: MAINSTEM_GRACE_PERIOD_S, value: {{ $part.gracePeriodS | quote }}}
{{- with $part.workers }}
- {name: MAINSTEM_WORKERS, value: {{ . | quote }}}
{{- end }}
{{- with $root.Values.url }}
- {name: MAINSTEM_URL, value: {{ . | quote }}}
{{- end }}
{{- if and $root.Values.kubernetesRunner.enabled (not (hasKey $root.Values.settings "defaultTaskRunner")) }}
- {name: MAINSTEM_DEFAULT_TASK_RUNNER, value: kubernetes}
{{- end }}
{{- if eq $root.Values.mode "distributed" }}
- {name: MAINSTEM_STORAGE, value: {{ $root.Values.storage.url | default "/srv/mainstem/files" | quote }}}
{{ include "mainstem.databaseEnv" $root }}
- name: MAINSTEM_BROKER
  valueFrom:
    secretKeyRef: {name: {{ $root.Values.broker.existingSecret }}, key: {{ $root.Values.broker.key }}}
{{- end }}
{{- with $root.Values.credentials }}
{{- if .existingSecret }}
- name: MAINSTEM_ENCRYPTION_KEY
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: {{ .encryptionKeyKey }}}
{{- if and $.api (eq $root.Values.mode "distributed") }}
- name: MAINSTEM_ADMIN_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: {{ .adminTokenKey }}, optional: true}
{{- end }}
{{- end }}
{{- end }}
{{- with $root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- with $part.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mainstem.databaseEnv" -}}
- name: MAINSTEM_DATABASE
  valueFrom:
    secretKeyRef: {name: {{ .Values.database.existingSecret }}, key: {{ .Values.database.key }}}
{{- end -}}
