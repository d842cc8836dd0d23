{{- /* A Deployment. Takes what `mainstem.pod` takes, and isScaled: whether something else decides on its replicas. */ -}}
{{- define "mainstem.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "mainstem.fullname" .root }}-{{ .component }}
  labels:
    {{- include "mainstem.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  {{- if not .isScaled }}
  replicas: {{ .part.replicas }}
  {{- end }}
  strategy:
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  selector:
    matchLabels:
      {{- include "mainstem.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
  template:
    {{- include "mainstem.pod" . | nindent 4 }}
{{- if .root.Values.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "mainstem.fullname" .root }}-{{ .component }}
  labels:
    {{- include "mainstem.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  maxUnavailable: {{ .root.Values.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "mainstem.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
{{- end }}
{{- end -}}
