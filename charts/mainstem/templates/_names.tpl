{{- define "mainstem.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "mainstem.fullname" -}}
{{- $name := include "mainstem.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "mainstem.selector" -}}
app.kubernetes.io/name: {{ include "mainstem.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mainstem.labels" -}}
{{ include "mainstem.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "mainstem.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The name of the host in `url`. */ -}}
{{- define "mainstem.host" -}}
{{- (urlParse .Values.url).hostname -}}
{{- end -}}

{{- /* What serves the API: the pods with this component. */ -}}
{{- define "mainstem.api" -}}
{{- ternary "standalone" "serve" (eq .Values.mode "standalone") -}}
{{- end -}}

{{- define "mainstem.taskAccount" -}}
{{- ternary (printf "%s-tasks" (include "mainstem.fullname" .)) .Values.serviceAccount.name .Values.serviceAccount.create -}}
{{- end -}}

{{- define "mainstem.storageClaim" -}}
{{- .Values.storage.existingClaim | default (printf "%s-files" (include "mainstem.fullname" .)) -}}
{{- end -}}

{{- /* Refuse values with which nothing would start, and name what is missing. */ -}}
{{- define "mainstem.check" -}}
{{- if eq .Values.mode "distributed" -}}
{{- if not .Values.database.existingSecret -}}
{{- fail "database.existingSecret is missing: mode distributed needs a Secret with the URL of a PostgreSQL" -}}
{{- end -}}
{{- if not .Values.broker.existingSecret -}}
{{- fail "broker.existingSecret is missing: mode distributed needs a Secret with the URL of a Redis or Valkey" -}}
{{- end -}}
{{- if not .Values.credentials.existingSecret -}}
{{- fail "credentials.existingSecret is missing: mode distributed needs a Secret with an encryptionKey" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not (or .Values.ingress.host .Values.url)) -}}
{{- fail "ingress.host is missing, and there is no url to take it from" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs is missing: a route belongs to a Gateway" -}}
{{- end -}}
{{- end -}}
