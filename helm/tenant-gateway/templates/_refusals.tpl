{{- /* Checks that values.schema.json cannot express: combinations of values. */ -}}
{{- define "tenant-gateway.refuse" -}}
{{- $sqlite := include "tenant-gateway.sqlite" . }}
{{- $anonymous := dig "callers" "insecure_anonymous" false .Values.config }}
{{- $mtls := dig "callers" "mtls" "enabled" false .Values.config }}
{{- if and $sqlite (gt (int .Values.replicaCount) 1) }}
{{- fail (printf "replicaCount = %d needs store.url = postgres://…: an SQLite file has one writer" (int .Values.replicaCount)) }}
{{- end }}
{{- if and $sqlite (or .Values.store.password.secretName .Values.store.ca.configMapName) }}
{{- fail "store.password and store.ca are PostgreSQL's, and store.url is an SQLite file: leave them out" }}
{{- end }}

{{- $ports := dict }}
{{- range $listener := list "grpc" "http" "egress" "admin" }}
{{- $port := include "tenant-gateway.port" (dict "root" $ "listener" $listener) }}
{{- if hasKey $ports $port }}
{{- fail (printf "config.%s.listen and config.%s.listen have the same port %s: give each its own" (get $ports $port) $listener $port) }}
{{- end }}
{{- $_ := set $ports $port $listener }}
{{- $loopback := include "tenant-gateway.loopback" (dict "root" $ "listener" $listener) }}
{{- if and $anonymous (not $loopback) }}
{{- fail (printf "config.callers.insecure_anonymous lets everybody in, so config.%s.listen must be on loopback, such as 127.0.0.1:%s" $listener $port) }}
{{- end }}
{{- if has $listener (list "grpc" "egress") }}
{{- $tls := index $.Values.tls $listener }}
{{- if not (or $tls.enabled $loopback (dig $listener "allow_plaintext" false $.Values.config)) }}
{{- fail (printf "credentials would cross the network unencrypted: set tls.%s.enabled, or config.%s.allow_plaintext if something in front encrypts" $listener $listener) }}
{{- end }}
{{- end }}
{{- end }}
{{- if not (or .Values.tls.http.enabled (include "tenant-gateway.loopback" (dict "root" . "listener" "http")) (dig "http" "public_uri" "" .Values.config)) }}
{{- fail "webhooks would cross the network unencrypted: set tls.http.enabled, or config.http.public_uri where an ingress ends TLS" }}
{{- end }}

{{- with .Values.policy }}
{{- if and .policies .configMapName }}
{{- fail "policy.policies and policy.configMapName are two policies: leave one of them out" }}
{{- end }}
{{- if and .entities (not .policies) }}
{{- fail "policy.entities belongs to policy.policies, and a ConfigMap of yours has its own: give policy.policies, or policy.entitiesKey instead" }}
{{- end }}
{{- if and .entitiesKey (not .configMapName) }}
{{- fail "policy.entitiesKey is a key of policy.configMapName: give that too, or policy.entities instead" }}
{{- end }}
{{- end }}
{{- if not (or $anonymous $mtls .Values.callers.serviceAccounts.enabled (dig "callers" "jwt" list .Values.config)) }}
{{- fail "nobody could call: set callers.serviceAccounts.enabled, config.callers.jwt or config.callers.mtls.enabled" }}
{{- end }}
{{- if and $anonymous (or .Values.callers.serviceAccounts.enabled $mtls (dig "callers" "jwt" list .Values.config)) }}
{{- fail "config.callers.insecure_anonymous looks at no credential: set callers.serviceAccounts.enabled = false and remove config.callers.jwt and config.callers.mtls" }}
{{- end }}
{{- if and $mtls (not (and .Values.tls.grpc.enabled .Values.tls.grpc.clientCaKey)) }}
{{- fail "config.callers.mtls.enabled needs tls.grpc.enabled and tls.grpc.clientCaKey, the authorities whose certificates name callers" }}
{{- end }}

{{- if eq .Values.probes.type "grpc" }}
{{- if .Values.tls.grpc.enabled }}
{{- fail "probes.type = grpc needs tls.grpc.enabled = false, because the kubelet speaks no TLS to a gRPC probe: use probes.type = http" }}
{{- end }}
{{- if include "tenant-gateway.loopback" (dict "root" . "listener" "grpc") }}
{{- fail "probes.type = grpc needs config.grpc.listen beyond loopback, such as 0.0.0.0:50051: the kubelet calls the pod's address" }}
{{- end }}
{{- else if eq .Values.probes.type "http" }}
{{- if include "tenant-gateway.loopback" (dict "root" . "listener" "admin") }}
{{- fail "probes.type = http needs config.admin.listen beyond loopback, such as 0.0.0.0:9090: the kubelet calls the pod's address" }}
{{- end }}
{{- end }}

{{- $deadline := include "tenant-gateway.hardDeadline" . }}
{{- $seconds := include "tenant-gateway.seconds" $deadline | int64 }}
{{- $grace := include "tenant-gateway.gracePeriod" . | int64 }}
{{- if le $grace $seconds }}
{{- fail (printf "terminationGracePeriodSeconds = %d must be longer than config.lifecycle.hard_deadline = %s, or the pod is killed while it stops" $grace $deadline) }}
{{- end }}

{{- $ids := dict }}
{{- range .Values.applications }}
{{- if hasKey $ids .id }}
{{- fail (printf "two applications have the id %s: each needs its own" .id) }}
{{- end }}
{{- $_ := set $ids .id true }}
{{- end }}
{{- end }}
