{{- /*
Templates for a pod with a broker, the same that the webhook makes; a test
compares them. Each takes one object, usually .Values.credfree:

  policy      name of the ConfigMap with the policy, key credfree.yaml (required)
  agents      names of the pod's agents (required)
  image       of the broker, with tag or digest (required)
  pullPolicy  of the image
  user        uid and gid of the broker (7400)
  audience, tokenExpirationSeconds   of the workload token
  resources   of the broker
  ceiling     name of a ConfigMap with the key ceiling.yaml, what the policy may grant at most
  env         more environment of the broker, a map
  clientID, tenantID, agentID        identity of this pod, where the policy leaves it open
  authSidecar true opens the door of Microsoft's own sidecar

Agents need a uid each, other than the broker's:

  spec:
    securityContext:
      {{- include "credfree.podSecurityContext" .Values.credfree | nindent 6 }}
    initContainers:
      {{- include "credfree.sidecar" .Values.credfree | nindent 6 }}      # first
    containers:
      - name: researcher
        securityContext: {runAsUser: 10001, allowPrivilegeEscalation: false}
        env:
          {{- include "credfree.agentEnv" (dict "agent" "researcher") | nindent 10 }}
        volumeMounts:
          {{- include "credfree.agentVolumeMounts" (dict "agent" "researcher") | nindent 10 }}
    volumes:
      {{- include "credfree.volumes" .Values.credfree | nindent 6 }}
*/ -}}

{{- define "credfree.user" -}}
{{- include "credfree.checkNumber" (dict "name" "user" "value" .user "least" 1 "most" 2147483647) -}}
{{- .user | default 7400 | int64 -}}
{{- end -}}

{{- /* What the webhook checks of its configuration and of a pod's annotations. */ -}}
{{- define "credfree.check" -}}
{{- if not .policy -}}
{{- fail "credfree: policy is missing: name the ConfigMap with the key credfree.yaml" -}}
{{- end -}}
{{- if or (not .agents) (not (kindIs "slice" .agents)) -}}
{{- fail "credfree: agents is missing: list the agents of the policy that run in this pod" -}}
{{- end -}}
{{- if not .image -}}
{{- fail "credfree: image is missing: name the broker's, ghcr.io/credfree/credfree with a version" -}}
{{- end -}}
{{- range .agents -}}
{{- include "credfree.checkAgent" . -}}
{{- end -}}
{{- $known := list "policy" "agents" "image" "pullPolicy" "user" "audience" "tokenExpirationSeconds" "resources" "ceiling" "env" "clientID" "tenantID" "agentID" "authSidecar" -}}
{{- range $name, $_ := . -}}
{{- if not (has $name $known) -}}
{{- fail (printf "credfree: there is no setting %s; those there are: %s" $name (join ", " $known)) -}}
{{- end -}}
{{- end -}}
{{- $configMap := `^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$` -}}
{{- $guid := `^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$` -}}
{{- range list
  (list "policy" $configMap "the name of a ConfigMap")
  (list "ceiling" $configMap "the name of a ConfigMap")
  (list "image" `^[A-Za-z0-9\[][A-Za-z0-9._:/@\[\]-]*$` "the name of an image")
  (list "pullPolicy" `^(Always|IfNotPresent|Never)$` "Always, IfNotPresent or Never")
  (list "audience" `^[!-~]{1,256}$` "an audience")
  (list "clientID" $guid "a GUID")
  (list "agentID" $guid "a GUID")
  (list "tenantID" `^([0-9a-zA-Z]([0-9a-zA-Z-]{0,61}[0-9a-zA-Z])?\.)+[a-zA-Z]{2,63}$|^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$` "a GUID or a domain")
  (list "authSidecar" `^(true|false)$` "true or false") -}}
{{- $value := get $ (first .) -}}
{{- if and (ne (toString $value) "") (not (kindIs "invalid" $value)) (not (regexMatch (index . 1) (toString $value))) -}}
{{- fail (printf "credfree: %s: %q is not %s" (first .) (toString $value) (last .)) -}}
{{- end -}}
{{- end -}}
{{- include "credfree.checkNumber" (dict "name" "user" "value" .user "least" 1 "most" 2147483647) -}}
{{- include "credfree.checkNumber" (dict "name" "tokenExpirationSeconds" "value" .tokenExpirationSeconds "least" 600 "most" 86400) -}}
{{- include "credfree.checkEnv" (.env | default dict) -}}
{{- include "credfree.checkResources" (.resources | default dict) -}}
{{- end -}}

{{- define "credfree.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ toString . }}{{- end -}}
{{- end -}}

{{- define "credfree.checkNumber" -}}
{{- if not (kindIs "invalid" .value) -}}
{{- $text := include "credfree.text" .value -}}
{{- if or (not (regexMatch `^[1-9][0-9]{0,9}$` $text)) (lt (int64 $text) (int64 .least)) (gt (int64 $text) (int64 .most)) -}}
{{- fail (printf "credfree: %s: %q is not a number from %d to %d" .name $text .least .most) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "credfree.checkEnv" -}}
{{- if not (kindIs "map" .) -}}
{{- fail "credfree: env is not a map of names and values" -}}
{{- end -}}
{{- $own := list "CREDFREE_CONFIG" "CREDFREE_CEILING" "CREDFREE_SOCKET_DIR" "CREDFREE_SOCKET_FOLDERS" "CREDFREE_AUTH_SIDECAR" "CREDFREE_POD_CLIENT_ID" "CREDFREE_POD_TENANT_ID" "CREDFREE_POD_AGENT_ID" "K8S_NAMESPACE_NAME" "K8S_POD_NAME" "K8S_POD_UID" "K8S_NODE_NAME" -}}
{{- range $name, $value := . -}}
{{- if or (not (regexMatch `^[A-Za-z_][A-Za-z0-9_]*$` $name)) (has $name $own) -}}
{{- fail (printf "credfree: env: %s cannot be set: it is not a name, or is set for each pod" $name) -}}
{{- end -}}
{{- if not (kindIs "string" $value) -}}
{{- fail (printf "credfree: env: the value of %s is not a text: write it in quotes" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "credfree.checkResources" -}}
{{- if or (not (kindIs "map" .)) (omit . "requests" "limits") -}}
{{- fail "credfree: resources has other keys than requests and limits" -}}
{{- end -}}
{{- $limits := .limits | default dict -}}
{{- range $list := list $limits (.requests | default dict) -}}
{{- range $name, $value := $list -}}
{{- if not (regexMatch `^([0-9]{1,15}(?:\.[0-9]{1,9})?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?$` (include "credfree.text" $value)) -}}
{{- fail (printf "credfree: resources: %s %q is not a quantity such as 100m or 64Mi" $name (include "credfree.text" $value)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := .requests -}}
{{- if and (hasKey $limits $name) (gt (include "credfree.amount" $value | float64) (include "credfree.amount" (get $limits $name) | float64)) -}}
{{- fail (printf "credfree: resources: the request of %s, %s, is above its limit, %s" $name (include "credfree.text" $value) (get $limits $name | include "credfree.text")) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "credfree.amount" -}}
{{- $text := include "credfree.text" . -}}
{{- $unit := dict "" 1 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf (regexFind `^[0-9.]+` $text) (get $unit (regexFind `[A-Za-z]*$` $text)) -}}
{{- end -}}

{{- define "credfree.checkAgent" -}}
{{- if not (regexMatch `^[a-z0-9]([a-z0-9-]{0,34}[a-z0-9])?$` (toString .)) -}}
{{- fail (printf "credfree: %q is not the name of an agent: at most 36 lower case letters, digits and -" (toString .)) -}}
{{- end -}}
{{- end -}}

{{- define "credfree.sidecar" -}}
{{- include "credfree.check" . -}}
- name: credfree
  image: {{ .image | quote }}
  {{- with .pullPolicy }}
  imagePullPolicy: {{ . }}
  {{- end }}
  # A native sidecar: it starts before the containers that follow, and ends after them.
  restartPolicy: Always
  command: [/credfree]
  args: [serve]
  env:
    - {name: CREDFREE_CONFIG, value: /etc/credfree/credfree.yaml}
    - {name: CREDFREE_SOCKET_DIR, value: /run/credfree/agents}
    - {name: CREDFREE_SOCKET_FOLDERS, value: "true"}
    {{- if .ceiling }}
    - {name: CREDFREE_CEILING, value: /etc/credfree-ceiling/ceiling.yaml}
    {{- end }}
    {{- if eq (toString .authSidecar) "true" }}
    - {name: CREDFREE_AUTH_SIDECAR, value: "true"}
    {{- end }}
    {{- with .clientID }}
    - {name: CREDFREE_POD_CLIENT_ID, value: {{ . | quote }}}
    {{- end }}
    {{- with .tenantID }}
    - {name: CREDFREE_POD_TENANT_ID, value: {{ . | quote }}}
    {{- end }}
    {{- with .agentID }}
    - {name: CREDFREE_POD_AGENT_ID, value: {{ . | quote }}}
    {{- end }}
    - {name: K8S_NAMESPACE_NAME, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: K8S_POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: K8S_POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
    - {name: K8S_NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    {{- $env := .env | default dict }}
    - name: OTEL_RESOURCE_ATTRIBUTES
      value: {{ list "k8s.namespace.name=$(K8S_NAMESPACE_NAME),k8s.pod.name=$(K8S_POD_NAME),k8s.pod.uid=$(K8S_POD_UID),k8s.node.name=$(K8S_NODE_NAME)" $env.OTEL_RESOURCE_ATTRIBUTES | compact | join "," | quote }}
    {{- range $name, $value := omit $env "OTEL_RESOURCE_ATTRIBUTES" }}
    - {name: {{ $name }}, value: {{ $value | quote }}}
    {{- end }}
  resources: {{- .resources | default (dict "requests" (dict "cpu" "10m" "memory" "48Mi") "limits" (dict "memory" "128Mi")) | toYaml | nindent 4 }}
  startupProbe:
    exec: {command: [/credfree, healthcheck]}
    periodSeconds: 1
    timeoutSeconds: 5
    failureThreshold: 120
  readinessProbe:
    exec: {command: [/credfree, healthcheck]}
    periodSeconds: 15
    timeoutSeconds: 5
    failureThreshold: 2
  livenessProbe:
    exec: {command: [/credfree, healthcheck, --live]}
    periodSeconds: 30
    timeoutSeconds: 5
    failureThreshold: 3
  terminationMessagePolicy: FallbackToLogsOnError
  securityContext:
    runAsUser: {{ include "credfree.user" . }}
    runAsGroup: {{ include "credfree.user" . }}
    runAsNonRoot: true
    privileged: false
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL]}
    seccompProfile: {type: RuntimeDefault}
  volumeMounts:
    - {name: credfree-token, mountPath: /var/run/secrets/azure/tokens, readOnly: true}
    - {name: credfree-policy, mountPath: /etc/credfree, readOnly: true}
    - {name: credfree-run, mountPath: /run/credfree/agents}
    {{- if .ceiling }}
    - {name: credfree-ceiling, mountPath: /etc/credfree-ceiling, readOnly: true}
    {{- end }}
    {{- range .agents | uniq | sortAlpha }}
    - {name: credfree-agent-{{ . }}, mountPath: /run/credfree/agents/{{ . }}}
    {{- end }}
{{- end -}}

{{- define "credfree.volumes" -}}
{{- include "credfree.check" . -}}
- name: credfree-token
  projected:
    defaultMode: 0444
    sources:
      - serviceAccountToken:
          audience: {{ .audience | default "api://AzureADTokenExchange" | quote }}
          expirationSeconds: {{ .tokenExpirationSeconds | default 3600 | int64 }}
          path: azure-identity-token
- name: credfree-policy
  configMap: {name: {{ .policy | quote }}, defaultMode: 0444}
- name: credfree-run
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- with .ceiling }}
- name: credfree-ceiling
  configMap: {name: {{ . | quote }}, defaultMode: 0444}
{{- end }}
{{- range .agents | uniq | sortAlpha }}
- name: credfree-agent-{{ . }}
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end }}
{{- end -}}

{{- define "credfree.podSecurityContext" -}}
supplementalGroups: [{{ include "credfree.user" . }}] # agents reach their sockets through the broker's group
{{- end -}}

{{- define "credfree.agentEnv" -}}
{{- include "credfree.checkAgent" .agent -}}
- {name: IDENTITY_ENDPOINT, value: "http://127.0.0.1:7400/msi/token"}
- {name: IDENTITY_HEADER, value: none}
- {name: CREDFREE_URL, value: "http://127.0.0.1:7400"}
- {name: CREDFREE_SOCKET, value: /run/credfree/socket/{{ .agent }}.sock}
- {name: SIDECAR_URL, value: "http://127.0.0.1:7400"}
- {name: AZURE_TOKEN_CREDENTIALS, value: prod}
{{- $direct := list .noProxy "127.0.0.1,localhost" | compact | join "," | quote }}
- {name: NO_PROXY, value: {{ $direct }}}
- {name: no_proxy, value: {{ $direct }}}
{{- end -}}

{{- define "credfree.agentVolumeMounts" -}}
{{- include "credfree.checkAgent" .agent -}}
- {name: credfree-agent-{{ .agent }}, mountPath: /run/credfree, readOnly: true}
{{- end -}}
