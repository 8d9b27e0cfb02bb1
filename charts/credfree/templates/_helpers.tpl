{{- /* Also the name of a Service: no dots, and a letter first. */ -}}
{{- define "credfree.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{- $name = regexReplaceAll "-+$" ($name | replace "." "-" | trunc 40) "" -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]" $name) -}}
{{- fail (printf "the name %s begins with a digit, and Services may not: set fullnameOverride" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "credfree.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: webhook
{{- end -}}

{{- define "credfree.labels" -}}
{{ include "credfree.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "credfree.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "credfree.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "credfree.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "credfree.certificateName" -}}
{{- if eq .Values.certificates.provider "secret" -}}
{{- required "certificates.secret.name is missing: provider secret needs a Secret of yours" .Values.certificates.secret.name -}}
{{- else -}}
{{ include "credfree.fullname" . }}-tls
{{- end -}}
{{- end -}}

{{- /* The seconds of a duration such as 720h, of the form that the schema asks for. */ -}}
{{- define "credfree.seconds" -}}
{{- $unit := dict "h" 3600 "m" 60 "s" 1 -}}
{{- mul (regexFind "[1-9][0-9]*" . | int64) (get $unit (trimAll "0123456789" .)) -}}
{{- end -}}

{{- define "credfree.dnsName" -}}
{{ include "credfree.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{- /* What all pods get; the form is that of inject.Config. */ -}}
{{- define "credfree.injectConfig" -}}
{{- with .Values.sidecar -}}
{{- $config := dict
  "image" (.image | default (include "credfree.image" $))
  "imagePullPolicy" $.Values.image.pullPolicy
  "user" (int64 .user)
  "audience" .audience
  "tokenExpirationSeconds" (int64 .tokenExpirationSeconds)
  "resources" .resources
  "maxCPU" .maxCPU
  "maxMemory" .maxMemory
  "env" .env
  "ceiling" .ceiling
  "serviceAccounts" $.Values.serviceAccounts -}}
{{- toPrettyJson $config -}}
{{- end -}}
{{- end -}}
