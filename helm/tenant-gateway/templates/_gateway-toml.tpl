{{- /* The mount paths of the projected volume (Secrets and other files) and of the SQLite volume. */ -}}
{{- define "tenant-gateway.files" -}}/run/tenant-gateway{{- end }}
{{- define "tenant-gateway.data" -}}/var/lib/tenant-gateway{{- end }}

{{- /* The used keys of an application's Secret, as { key of gateway.toml: key of the Secret }. */ -}}
{{- define "tenant-gateway.applicationSecrets" -}}
{{- $keys := default dict .secretKeys }}
{{- $used := dict "client_secret" (default "client-secret" $keys.clientSecret) "private_key" (default "private-key" $keys.privateKey) }}
{{- with $keys.nextClientSecret }}{{ $_ := set $used "next_client_secret" . }}{{ end }}
{{- with $keys.nextPrivateKey }}{{ $_ := set $used "next_private_key" . }}{{ end }}
{{- with $keys.webhookSecret }}{{ $_ := set $used "webhook_secret" . }}{{ end }}
{{- $used | toJson }}
{{- end }}

{{- /* gateway.toml, from `config` and the other values. */ -}}
{{- define "tenant-gateway.toml" -}}
{{- $files := include "tenant-gateway.files" . }}
{{- $config := deepCopy .Values.config }}
{{- range $section := list "grpc" "http" "egress" "store" "crypto" "policy" "callers" }}
{{- if not (hasKey $config $section) }}{{ $_ := set $config $section dict }}{{ end }}
{{- end }}
{{- if include "tenant-gateway.sqlite" . }}
{{- $name := .Values.store.url | trimPrefix "sqlite:" | base }}
{{- $_ := set $config.store "url" (printf "sqlite:%s/%s" (include "tenant-gateway.data" .) $name) }}
{{- else }}
{{- $_ := set $config.store "url" .Values.store.url }}
{{- if .Values.store.password.secretName }}
{{- $_ := set $config.store "password_file" (printf "%s/store/password" $files) }}
{{- end }}
{{- if .Values.store.ca.configMapName }}
{{- $_ := set $config.store "ca_file" (printf "%s/store/ca.crt" $files) }}
{{- end }}
{{- end }}
{{- if .Values.outbound.proxyPassword.secretName }}
{{- $_ := set $config "proxy" (merge (dict "password_file" (printf "%s/outbound/proxy-password" $files)) (default dict $config.proxy)) }}
{{- end }}
{{- if .Values.outbound.ca.configMapName }}
{{- $_ := set $config "outbound" (merge (dict "ca_file" (printf "%s/outbound/ca.crt" $files)) (default dict $config.outbound)) }}
{{- end }}
{{- $_ := set $config.crypto "keyring_file" (printf "%s/keyring/keyring.toml" $files) }}
{{- range $listener, $tls := .Values.tls }}
{{- if $tls.enabled }}
{{- $folder := printf "%s/tls/%s" $files $listener }}
{{- $made := dict "certificate_file" (printf "%s/tls.crt" $folder) "private_key_file" (printf "%s/tls.key" $folder) }}
{{- if $tls.clientCaKey }}{{ $_ := set $made "client_ca_file" (printf "%s/ca.crt" $folder) }}{{ end }}
{{- $_ := set (index $config $listener) "tls" $made }}
{{- end }}
{{- end }}
{{- $policy := include "tenant-gateway.policy" . | fromJson }}
{{- if $policy.name }}
{{- $_ := set $config.policy "file" (printf "%s/policy/policy.cedar" $files) }}
{{- if $policy.entities }}
{{- $_ := set $config.policy "entities_file" (printf "%s/policy/entities.json" $files) }}
{{- end }}
{{- end }}
{{- with .Values.callers.serviceAccounts }}
{{- if .enabled }}
{{- $issuer := dict "issuer" .issuer "audience" .audience }}
{{- with .prefix }}{{ $_ := set $issuer "caller_prefix" . }}{{ end }}
{{- with .jwksUri }}{{ $_ := set $issuer "jwks_uri" . }}{{ end }}
{{- $_ := set $issuer "ca_file" (printf "%s/cluster/ca.crt" $files) }}
{{- $_ := set $issuer "bearer_token_file" (printf "%s/cluster/token" $files) }}
{{- $_ := set $config.callers "jwt" (prepend (default list $config.callers.jwt) $issuer) }}
{{- end }}
{{- end }}
{{- $applications := list }}
{{- range $application := .Values.applications }}
{{- $entry := omit $application "secretName" "secretKeys" }}
{{- range $key, $_ := include "tenant-gateway.applicationSecrets" $application | fromJson }}
{{- $_ := set $entry (printf "%s_file" $key) (printf "%s/applications/%s/%s" $files $application.id $key) }}
{{- end }}
{{- $applications = append $applications $entry }}
{{- end }}
{{- if $applications }}{{ $_ := set $config "applications" $applications }}{{ end }}
{{- include "tenant-gateway.tomlTable" (dict "path" "" "table" $config) | trim }}
{{- end }}

{{- /*
A table of TOML: its own keys first, then the tables below it. `toToml` is not used because it writes the numbers of
values, which are all floating point there, as 10.0. Takes { path, table }.
*/ -}}
{{- define "tenant-gateway.tomlTable" -}}
{{- range $key := keys .table | sortAlpha }}
{{- $value := index $.table $key }}
{{- if not (include "tenant-gateway.isTable" $value) }}
{{ $key }} = {{ include "tenant-gateway.tomlValue" $value }}
{{- end }}
{{- end }}
{{- range $key := keys .table | sortAlpha }}
{{- $value := index $.table $key }}
{{- $path := ternary $key (printf "%s.%s" $.path $key) (eq $.path "") }}
{{- if and (kindIs "map" $value) $value }}
{{- /* A table that holds only tables needs no header of its own. */ -}}
{{- $own := false }}
{{- range $inner := values $value }}{{ if not (include "tenant-gateway.isTable" $inner) }}{{ $own = true }}{{ end }}{{ end }}
{{- if $own }}

[{{ $path }}]
{{- end }}
{{- include "tenant-gateway.tomlTable" (dict "path" $path "table" $value) }}
{{- else if and (kindIs "slice" $value) (include "tenant-gateway.isTable" $value) }}
{{- range $value }}

[[{{ $path }}]]
{{- include "tenant-gateway.tomlTable" (dict "path" $path "table" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "tenant-gateway.isTable" -}}
{{- if kindIs "map" . }}true{{ else if kindIs "slice" . }}{{ if . }}{{ if kindIs "map" (first .) }}true{{ end }}{{ end }}{{ end }}
{{- end }}

{{- /* The schema allows only text, whole numbers, booleans and lists of text. */ -}}
{{- define "tenant-gateway.tomlValue" -}}
{{- if kindIs "string" . }}{{ toRawJson . }}
{{- else if kindIs "bool" . }}{{ . }}
{{- else if kindIs "slice" . }}{{ toRawJson . }}
{{- else }}{{ int64 . }}
{{- end }}
{{- end }}
