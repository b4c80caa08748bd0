{{- define "tenant-gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "tenant-gateway.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "tenant-gateway.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "tenant-gateway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tenant-gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tenant-gateway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "tenant-gateway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "tenant-gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "tenant-gateway.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "tenant-gateway.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "tenant-gateway.keyringSecret" -}}
{{- default (printf "%s-keyring" (include "tenant-gateway.fullname" .)) .Values.keyring.secretName }}
{{- end }}

{{- define "tenant-gateway.claim" -}}
{{- default (printf "%s-store" (include "tenant-gateway.fullname" .)) .Values.store.persistence.existingClaim }}
{{- end }}

{{- /* The Secret of a listener's certificate. Takes { root, listener }. */ -}}
{{- define "tenant-gateway.tlsSecret" -}}
{{- $own := printf "%s-tls" (include "tenant-gateway.fullname" .root) }}
{{- if ne .listener "grpc" }}
{{- $own = printf "%s-%s-tls" (include "tenant-gateway.fullname" .root) .listener }}
{{- end }}
{{- default $own (index .root.Values.tls .listener).secretName }}
{{- end }}

{{- /* The ConfigMap of the policy, if there is one, and the keys in it, as { name, policies, entities }. */ -}}
{{- define "tenant-gateway.policy" -}}
{{- $policy := .Values.policy }}
{{- $own := printf "%s-policy" (include "tenant-gateway.fullname" .) }}
{{- if $policy.policies }}
{{- dict "name" $own "policies" "policy.cedar" "entities" (ternary "entities.json" "" (ne $policy.entities "")) | toJson }}
{{- else }}
{{- dict "name" $policy.configMapName "policies" $policy.policiesKey "entities" $policy.entitiesKey | toJson }}
{{- end }}
{{- end }}

{{- /* "true" with SQLite, else empty. */ -}}
{{- define "tenant-gateway.sqlite" -}}
{{- if hasPrefix "sqlite:" .Values.store.url }}true{{ end }}
{{- end }}

{{- /* The address of a listener: the configured one or the program's default. Takes { root, listener }. */ -}}
{{- define "tenant-gateway.listen" -}}
{{- $built := dict "grpc" "127.0.0.1:50051" "http" "127.0.0.1:8080" "admin" "127.0.0.1:9090" "egress" "127.0.0.1:8081" }}
{{- dig .listener "listen" (get $built .listener) .root.Values.config }}
{{- end }}

{{- define "tenant-gateway.port" -}}
{{- include "tenant-gateway.listen" . | regexFind "[0-9]+$" }}
{{- end }}

{{- /* "true" if the listener can be reached only from within the pod, else empty. */ -}}
{{- define "tenant-gateway.loopback" -}}
{{- if regexMatch `^(127\.|\[::1\])` (include "tenant-gateway.listen" .) }}true{{ end }}
{{- end }}

{{- /* Listeners that are open to other pods, as { items: [names] }. */ -}}
{{- define "tenant-gateway.open" -}}
{{- $items := list }}
{{- range list "grpc" "http" "egress" "admin" }}
{{- if not (include "tenant-gateway.loopback" (dict "root" $ "listener" .)) }}
{{- $items = append $items . }}
{{- end }}
{{- end }}
{{- dict "items" $items | toJson }}
{{- end }}

{{- /* A duration of gateway.toml in whole seconds, rounded up. */ -}}
{{- define "tenant-gateway.seconds" -}}
{{- $units := dict "d" 86400000 "h" 3600000 "m" 60000 "s" 1000 "ms" 1 }}
{{- $total := 0 }}
{{- range regexFindAll "[0-9]+[a-z]+" . -1 }}
{{- $total = add $total (mul (regexFind "[0-9]+" . | int64) (get $units (regexFind "[a-z]+" .))) }}
{{- end }}
{{- div (add $total 999) 1000 }}
{{- end }}

{{- define "tenant-gateway.hardDeadline" -}}
{{- dig "lifecycle" "hard_deadline" "25s" .Values.config }}
{{- end }}

{{- define "tenant-gateway.gracePeriod" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds }}
{{- add 10 (include "tenant-gateway.seconds" (include "tenant-gateway.hardDeadline" .) | int64) }}
{{- else }}
{{- int64 .Values.terminationGracePeriodSeconds }}
{{- end }}
{{- end }}
