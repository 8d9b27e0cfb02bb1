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
{{- .user | default 7400 | int64 -}}
{{- end -}}

{{- define "credfree.check" -}}
{{- if not .policy -}}
{{- fail "credfree: policy is missing: name the ConfigMap with the key credfree.yaml" -}}
{{- end -}}
{{- if not .agents -}}
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
{{- end -}}

{{- define "credfree.checkAgent" -}}
{{- if not (regexMatch "^[a-z0-9]([a-z0-9-]{0,34}[a-z0-9])?$" (toString .)) -}}
{{- fail (printf "credfree: %q is not the name of an agent: at most 36 lower case letters, digits and -" (toString .)) -}}
{{- end -}}
{{- end -}}

{{- define "credfree.sidecar" -}}
{{- include "credfree.check" . -}}
- name: credfree
  image: {{ .image }}
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
    {{- if .authSidecar }}
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
      value: k8s.namespace.name=$(K8S_NAMESPACE_NAME),k8s.pod.name=$(K8S_POD_NAME),k8s.pod.uid=$(K8S_POD_UID),k8s.node.name=$(K8S_NODE_NAME){{ with $env.OTEL_RESOURCE_ATTRIBUTES }},{{ . }}{{ end }}
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
          audience: {{ .audience | default "api://AzureADTokenExchange" }}
          expirationSeconds: {{ .tokenExpirationSeconds | default 3600 | int64 }}
          path: azure-identity-token
- name: credfree-policy
  configMap: {name: {{ .policy }}, defaultMode: 0444}
- name: credfree-run
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- with .ceiling }}
- name: credfree-ceiling
  configMap: {name: {{ . }}, defaultMode: 0444}
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
- {name: NO_PROXY, value: "{{ with .noProxy }}{{ . }},{{ end }}127.0.0.1,localhost"}
- {name: no_proxy, value: "{{ with .noProxy }}{{ . }},{{ end }}127.0.0.1,localhost"}
{{- end -}}

{{- define "credfree.agentVolumeMounts" -}}
{{- include "credfree.checkAgent" .agent -}}
- {name: credfree-agent-{{ .agent }}, mountPath: /run/credfree, readOnly: true}
{{- end -}}
