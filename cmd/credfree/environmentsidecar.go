package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/credfree/credfree/broker/localapi"
)

// sidecarPolicy is one agent that has what the variables of Microsoft's own
// sidecar say: https://learn.microsoft.com/entra/msidweb/agent-id-sdk/configuration.
func (e *environment) sidecarPolicy(found *fromEnvironment) *policyFile {
	file := &policyFile{Version: 1, Identities: object{}, APIs: object{}, Agents: map[string]*policyAgent{}}
	e.refuseSecrets()
	instance := e.tenant(file)
	e.cloud(file, "AzureAd:Instance", instance)
	clientID := strings.ToLower(e.required("AzureAd:ClientId", "set it to the client id of the application or blueprint"))
	if source := e.credential(file); source != nil {
		file.Sources = object{"credential": source}
	}
	agent := &policyAgent{Identity: "application"}
	file.Agents["agent"] = agent
	capabilities := e.list("AzureAd:ClientCapabilities")
	file.Identities["application"] = object{"application": e.trusted(object{"clientID": clientID}, capabilities)}
	e.agents(file, clientID, capabilities)
	for name := range file.Identities {
		agent.Identities = append(agent.Identities, name)
	}
	slices.Sort(agent.Identities)
	e.apis(file, agent, found)
	e.audiences(clientID)
	if scopes := e.list("AzureAd:Scopes"); len(scopes) > 0 {
		agent.OnBehalfOf["scopes"] = scopes
	}
	e.gates(found)
	found.listen = e.listenAddress(found)
	e.noteIdle(found)
	return file
}

// trusted is an identity that trusts the workload token.
func (e *environment) trusted(identity object, capabilities []string) object {
	identity["source"] = "credential"
	if len(capabilities) > 0 {
		identity["clientCapabilities"] = capabilities
	}
	return identity
}

// read are the settings that are looked at, or mean nothing to be missed.
var read = regexp.MustCompile(`(?i)^(AzureAd:(Instance|TenantId|ClientId|Authority|Scopes|Audiences?|ClientCapabilities|ClientCredentials|AllowWebApiToBeAuthorizedByACL|SendX5C)(:|$)` +
	`|DownstreamApis:[^:]+:(BaseUrl|RelativePath|HttpMethod|Scopes|RequestAppToken|AcceptHeader|ContentType|ProtocolScheme|ExtraHeaderParameters|ExtraQueryParameters|AcquireTokenOptions)(:|$)` +
	`|Sidecar:(AllowOverrides:(GetAuthorizationHeader|CallDownstreamApi)(Unauthenticated)?|AllowOutboundRedirects)$)`)

// noteIdle names the settings that have no effect: whoever has set one expects
// another behaviour than they get.
func (e *environment) noteIdle(found *fromEnvironment) {
	for _, section := range []string{"AzureAd:", "DownstreamApis:", "Sidecar:"} {
		for _, rest := range e.below(section) {
			if name := section + rest; !read.MatchString(name) {
				found.notes = append(found.notes, strings.ReplaceAll(name, ":", "__")+" has no effect: the broker has no such setting")
			}
		}
	}
}

// secrets are the settings of credentials that hold a secret, or lead to one.
var secrets = regexp.MustCompile(`(?i)^(ClientSecret|ClientCertificates|Certificate|TokenDecryptionC)|:(ClientSecret|CertificatePassword|Base64EncodedValue|CertificateDiskPath|KeyVaultUrl|CertificateThumbprint|CertificateDistinguishedName|CertificateSubjectName)$`)

func (e *environment) refuseSecrets() {
	for _, rest := range e.below("AzureAd:") {
		if secrets.MatchString(rest) {
			e.problem("AzureAd:"+rest+" is a secret, or where one is", "remove it: the broker holds no credential. "+federate)
		}
	}
}

const federate = "Give the application a federated credential, and set AzureAd__ClientCredentials__0__SourceType=SignedAssertionFilePath, or SignedAssertionFromManagedIdentity with ManagedIdentityClientId"

// tenant reads AzureAd:Instance and TenantId, or Authority, which is both.
func (e *environment) tenant(file *policyFile) (instance string) {
	instance, file.Tenant = e.get("AzureAd:Instance"), strings.ToLower(e.get("AzureAd:TenantId"))
	if u, err := url.Parse(e.get("AzureAd:Authority")); err == nil && u.Host != "" && file.Tenant == "" {
		instance = u.Scheme + "://" + u.Host
		file.Tenant, _, _ = strings.Cut(strings.Trim(strings.ToLower(u.Path), "/"), "/")
	}
	switch {
	case file.Tenant == "":
		e.problem("AzureAd:TenantId is missing", "set it to the tenant's GUID")
	case !guid.MatchString(file.Tenant):
		e.problem("AzureAd:TenantId is no GUID", "write the tenant's GUID: user tokens name their tenant by it, and a token is of one tenant")
	}
	return instance
}

// credential reads the first of AzureAd:ClientCredentials. The others are what
// the auth sidecar falls back on: a broker that does so hides what is wrong.
func (e *environment) credential(file *policyFile) any {
	numbers := e.sections("AzureAd:ClientCredentials:")
	slices.SortFunc(numbers, func(a, b string) int { return number(a) - number(b) })
	if len(numbers) > 1 {
		e.problem("AzureAd:ClientCredentials has more than one credential", "leave the one that is to be used: none is tried in another's place")
	}
	prefix, kind := "", "SignedAssertionFilePath"
	if len(numbers) > 0 {
		prefix = "AzureAd:ClientCredentials:" + numbers[0] + ":"
		kind = e.get(prefix + "SourceType")
	}
	switch strings.ToLower(kind) {
	case "signedassertionfilepath":
		for _, name := range []string{prefix + "SignedAssertionFileDiskPath", prefix + "SignedAssertionFilePath", "AZURE_FEDERATED_TOKEN_FILE"} {
			if path := e.get(name); path != "" {
				return object{"file": object{"path": path}}
			}
		}
		e.problem("there is no workload token: neither AzureAd:ClientCredentials:0:SignedAssertionFileDiskPath nor AZURE_FEDERATED_TOKEN_FILE is set", federate)
	case "signedassertionfrommanagedidentity":
		if audience := e.get(prefix + "TokenExchangeUrl"); audience != "" && file.Cloud == "custom" {
			file.Audience = strings.TrimSuffix(audience, "/.default")
		}
		id := strings.ToLower(e.get(prefix + "ManagedIdentityClientId"))
		if id == "" {
			e.problem(prefix+"ManagedIdentityClientId is missing", "set it: Entra takes no token of a system-assigned identity for a federated credential")
		}
		return object{"managedIdentity": object{"clientID": id}}
	default:
		e.problem(prefix+"SourceType is none that the broker can use", federate)
	}
	return nil
}

// agents reads which agent identities of the blueprint there are, and which of
// their users. To the auth sidecar, all are one.
func (e *environment) agents(file *policyFile, blueprint string, capabilities []string) {
	identity := func(agent object) object {
		agent["blueprintID"] = blueprint
		return e.trusted(agent, capabilities)
	}
	if ids := fields(strings.ToLower(e.get(agentIdentities))); len(ids) > 0 {
		file.Identities["agents"] = object{"agent": identity(object{"agentIDs": ids})}
	}
	users := map[string]map[string][]string{}
	for _, entry := range fields(strings.ToLower(e.get(agentUsers))) {
		agent, user, ok := strings.Cut(entry, "/")
		if !ok {
			e.problem(agentUsers+" has an entry without a user", "write <agent identity>/<user's object id or user principal name>, with commas between them")
			return
		}
		kind := "usernames"
		if guid.MatchString(user) {
			kind = "userIDs"
		}
		if users[agent] == nil {
			users[agent] = map[string][]string{}
		}
		users[agent][kind] = append(users[agent][kind], user)
	}
	for agent, kinds := range users {
		for kind, list := range kinds {
			name := strings.ToLower(kind) + "-of-" + agent
			file.Identities[name] = object{"agentUser": identity(object{"agentID": agent, kind: list})}
		}
	}
}

// audiences refuses audiences that are not the application: the broker verifies
// that a user's token is for the one that it exchanges it as.
func (e *environment) audiences(clientID string) {
	for _, audience := range append(e.list("AzureAd:Audience"), e.list("AzureAd:Audiences")...) {
		if plain := strings.TrimPrefix(strings.ToLower(audience), "api://"); plain != clientID {
			e.problem("AzureAd:Audience is another application than AzureAd:ClientId", "remove it: a user's token is taken if it is for the client id, or for api://<client id>")
			return
		}
	}
}

// gates reads which routes take overrides, with the defaults of the auth sidecar.
func (e *environment) gates(found *fromEnvironment) {
	found.sidecar.Closed = map[string]bool{}
	for name, otherwise := range map[string]bool{
		"GetAuthorizationHeader": true, "GetAuthorizationHeaderUnauthenticated": false, "CallDownstreamApi": true, "CallDownstreamApiUnauthenticated": false,
	} {
		found.sidecar.Closed[name] = !e.boolean("Sidecar:AllowOverrides:"+name, otherwise)
	}
	if e.boolean("Sidecar:AllowOutboundRedirects", false) {
		found.notes = append(found.notes, "Sidecar__AllowOutboundRedirects has no effect: redirects of APIs are not followed, and come back to the agent")
	}
}

// apis reads DownstreamApis. Names are in small letters in a policy.
func (e *environment) apis(file *policyFile, agent *policyAgent, found *fromEnvironment) {
	found.sidecar.Names, found.sidecar.Calls = map[string]string{}, map[string]localapi.SidecarCall{}
	var own, forUsers []string
	for _, written := range e.sections("DownstreamApis:") {
		prefix, name := "DownstreamApis:"+written+":", strings.ToLower(written)
		scopes := e.scopesOf(prefix + "Scopes")
		if slices.ContainsFunc(scopes, func(scope string) bool { return strings.Contains(strings.ToLower(scope), "azureadtokenexchange") }) {
			found.notes = append(found.notes, "the API "+written+" is left out: it is for tokens of the blueprint itself, which stay in the broker")
			continue
		}
		if _, twice := file.APIs[name]; twice {
			e.problem("DownstreamApis has two names that differ in the case of their letters alone", "rename one of them")
		}
		if len(scopes) == 0 {
			e.problem(prefix+"Scopes is missing", "set "+strings.ReplaceAll(prefix, ":", "__")+"Scopes__0, such as https://graph.microsoft.com/.default")
		}
		base := strings.TrimRight(e.get(prefix+"BaseUrl"), "/")
		if base == "" {
			base = "https://" + name + ".base-url-is-not-set.invalid" // tokens are handed out, and calls lead nowhere
		}
		file.APIs[name] = object{"baseURL": base, "scopes": scopes}
		found.sidecar.Names[written] = name
		call := e.callOf(prefix)
		found.sidecar.Calls[name] = call
		own = append(own, name)
		if !call.RequestAppToken {
			forUsers = append(forUsers, name)
		}
	}
	agent.Allow, agent.OnBehalfOf = object{}, object{"users": object{"guests": false}} // members of the tenant
	if len(own) > 0 {
		agent.Allow["apis"] = own
	}
	if scopes := fields(e.get(allowedScopes)); len(scopes) > 0 {
		agent.Allow["scopes"] = scopes
	}
	if len(forUsers) > 0 {
		agent.OnBehalfOf["allow"] = object{"apis": forUsers}
	}
	if clients := fields(strings.ToLower(e.get(allowedClients))); len(clients) > 0 {
		agent.OnBehalfOf["clients"] = clients
	}
}

// scopesOf reads scopes. One without a resource is of Microsoft Graph, to Entra
// too; those that ask for an id token have no meaning here.
func (e *environment) scopesOf(name string) []string {
	var scopes []string
	for _, scope := range e.list(name) {
		switch {
		case slices.Contains([]string{"openid", "profile", "offline_access", "email"}, scope):
		case strings.Contains(scope, "/"):
			scopes = append(scopes, scope)
		default:
			scopes = append(scopes, "graph/"+scope)
		}
	}
	return scopes
}

// callOf reads what is settled of the calls of an API.
func (e *environment) callOf(prefix string) localapi.SidecarCall {
	call := localapi.SidecarCall{
		Method: strings.ToUpper(e.get(prefix + "HttpMethod")), Path: e.get(prefix + "RelativePath"), Accept: e.get(prefix + "AcceptHeader"), ContentType: e.get(prefix + "ContentType"),
		RequestAppToken: e.boolean(prefix+"RequestAppToken", false), Header: http.Header{}, Query: map[string]string{},
	}
	for _, name := range e.below(prefix + "ExtraQueryParameters:") {
		call.Query[name] = e.get(prefix + "ExtraQueryParameters:" + name)
	}
	for _, name := range e.below(prefix + "ExtraHeaderParameters:") {
		canonical := http.CanonicalHeaderKey(name)
		if localapi.IsReservedHeader(canonical) {
			e.problem(prefix+"ExtraHeaderParameters:"+name+" is reserved", "remove it: it is the broker's to write")
			continue
		}
		call.Header[canonical] = []string{e.get(prefix + "ExtraHeaderParameters:" + name)}
	}
	for _, rest := range e.below(prefix + "AcquireTokenOptions:") {
		if !strings.EqualFold(rest, "ForceRefresh") && !strings.EqualFold(rest, "CorrelationId") {
			e.problem(prefix+"AcquireTokenOptions:"+rest+" is not taken", "remove it: a policy file says which identity and tenant a token is of")
		}
	}
	if scheme := e.get(prefix + "ProtocolScheme"); scheme != "" && !strings.EqualFold(scheme, "Bearer") {
		e.problem(prefix+"ProtocolScheme is not Bearer", "remove it: tokens are bearer tokens")
	}
	return call
}

// listenAddress reads where the auth sidecar would listen. It listens on all
// addresses, and refuses whoever does not come from this machine: that is what
// listening on loopback does too.
func (e *environment) listenAddress(found *fromEnvironment) string {
	addresses := strings.FieldsFunc(e.get("ASPNETCORE_URLS"), func(c rune) bool { return c == ';' || c == ' ' })
	if len(addresses) == 0 {
		for _, port := range strings.FieldsFunc(e.get("ASPNETCORE_HTTP_PORTS"), func(c rune) bool { return c == ';' || c == ',' || c == ' ' }) {
			addresses = append(addresses, "http://+:"+port)
		}
	}
	if len(addresses) == 0 {
		return ""
	}
	if len(addresses) > 1 {
		found.notes = append(found.notes, fmt.Sprintf("of %d addresses, the first is listened on", len(addresses)))
	}
	rest, ok := strings.CutPrefix(strings.TrimRight(addresses[0], "/"), "http://")
	host, port, err := net.SplitHostPort(rest)
	if ok && err != nil && !strings.Contains(rest, ":") { // as ASP.NET takes it
		host, port, err = rest, "80", nil
	}
	address, notIP := netip.ParseAddr(host)
	switch {
	case !ok || err != nil:
		e.problem("ASPNETCORE_URLS is not http://<address>:<port>", "write http://127.0.0.1:5000, or use --listen: there is no TLS on this machine's own addresses")
	case slices.Contains([]string{"+", "*", "localhost", ""}, host), notIP == nil && address == netip.IPv4Unspecified(), notIP == nil && address == netip.IPv6Unspecified():
		return "127.0.0.1:" + port
	case notIP != nil || !address.IsLoopback():
		e.problem("ASPNETCORE_URLS names an address that others can reach", "write http://127.0.0.1:<port>: the broker serves this machine, or pod, alone")
	}
	return net.JoinHostPort(host, port)
}
