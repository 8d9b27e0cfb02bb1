package policy

import (
	"strings"
)

// Identity is what the broker can be at Entra. Exactly one of the pointers is
// set.
type Identity struct {
	Tenant       string   // lower-case GUID or verified domain: the identity's own, else the policy's
	Capabilities []string // client capabilities to declare to Entra, e.g. cp1; nil for none

	Application     *Application
	Agent           *AgentIdentity
	AgentUser       *AgentUser
	ManagedIdentity *ManagedIdentity
}

// Application is an app registration, or a user-assigned identity, with a
// federated credential.
type Application struct {
	ClientID string // lower-case GUID
	Source   string // key of Policy.Sources
}

// AgentIdentity is one agent identity of a blueprint that has a federated
// credential, or a fleet of them.
type AgentIdentity struct {
	BlueprintID string   // lower-case GUID
	AgentIDs    []string // lower-case GUIDs; never empty
	Source      string   // key of Policy.Sources, for the blueprint
}

// AgentUser is the user account of an agent identity, or a fleet of them.
type AgentUser struct {
	BlueprintID string          // lower-case GUID
	AgentID     string          // lower-case GUID
	Users       []AgentUserName // never empty; all by name, or all by object id
	Source      string          // key of Policy.Sources, for the blueprint
}

// AgentUserName names the user account of an agent. Exactly one field is set.
type AgentUserName struct {
	Username string // user principal name, in lower case
	ObjectID string // lower-case GUID
}

// ManagedIdentity is an identity of the machine that the broker runs on. At
// most one field is set; none stands for the system-assigned identity.
type ManagedIdentity struct {
	ClientID   string // lower-case GUID
	ObjectID   string // lower-case GUID
	ResourceID string // ARM id, as written
}

// Members returns what a request may name after the name of a fleet, in lower
// case: agent ids, user names or object ids. It is nil for an identity that is
// one thing only.
func (i Identity) Members() []string {
	switch {
	case i.Agent != nil:
		return i.Agent.AgentIDs
	case i.AgentUser != nil:
		members := make([]string, len(i.AgentUser.Users))
		for n, user := range i.AgentUser.Users {
			members[n] = user.Username + user.ObjectID // one of the two is empty
		}
		return members
	}
	return nil
}

// Source returns the key in Policy.Sources of where the workload token comes
// from; "" for a managed identity, which needs none.
func (i Identity) Source() string {
	switch {
	case i.Application != nil:
		return i.Application.Source
	case i.Agent != nil:
		return i.Agent.Source
	case i.AgentUser != nil:
		return i.AgentUser.Source
	}
	return ""
}

// clientIDs returns the client ids that tokens of the identity are issued to.
func (i Identity) clientIDs() []string {
	switch {
	case i.Application != nil:
		return []string{i.Application.ClientID}
	case i.Agent != nil:
		return i.Agent.AgentIDs
	case i.AgentUser != nil:
		return []string{i.AgentUser.AgentID}
	case i.ManagedIdentity != nil && i.ManagedIdentity.ClientID != "":
		return []string{i.ManagedIdentity.ClientID}
	}
	return nil
}

var sharedFields = []field{
	required("source", reference, "Name of the source of the workload token."),
	optional("tenant", tenantForm, "Tenant of this identity, when it is not that of the file: a GUID or a verified domain."),
	optional("clientCapabilities", list(oneOf("cp1")), "Client capabilities to declare to Entra: cp1 for continuous access evaluation."),
}

// The kinds of identity. The hints say where to look the values up.
var (
	applicationForm = fieldsOf(append([]field{
		required("clientID", guidOrPod, "Application (client) ID of the app registration or user-assigned identity that trusts the workload token; or pod for what the pod's service account says."),
		podIDs,
	}, sharedFields...)...)
	agentIdentityForm = fieldsOf(append([]field{
		required("blueprintID", guid, "Application (client) ID of the agent identity blueprint that trusts the workload token."),
		optional("agentID", guidOrPod, "ID of the agent identity; or pod for what the pod says, which has to be one of podIDs."),
		podIDs,
		optional("agentIDs", some(guid), "IDs of several agent identities; the request then names one of them as identity=<name>/<id>."),
	}, sharedFields...)...).exactlyOne("agentID", "agentIDs")
	agentUserForm = fieldsOf(append([]field{
		required("blueprintID", guid, "Application (client) ID of the agent identity blueprint that trusts the workload token."),
		required("agentID", guid, "ID of the agent identity that the user account belongs to."),
		optional("username", anyText, "User principal name of the agent's user account."),
		optional("userID", guid, "Object ID of the agent's user account."),
		optional("usernames", some(anyText), "User principal names of several accounts; the request then names one of them as identity=<name>/<username>."),
		optional("userIDs", some(guid), "Object IDs of several accounts; the request then names one of them as identity=<name>/<id>."),
	}, sharedFields...)...).exactlyOne("username", "userID", "usernames", "userIDs")
	managedIdentityForm = fieldsOf(managedIdentityFields...)

	identityForm = oneKind(
		optional("application", applicationForm, "An app registration, or a user-assigned identity, with a federated credential."),
		optional("agent", agentIdentityForm, "An agent identity of Microsoft Entra Agent ID, or several of one blueprint."),
		optional("agentUser", agentUserForm, "The user account of an agent identity, or several."),
		optional("managedIdentity", managedIdentityForm, "A managed identity of this machine; {} is the system-assigned one."),
	)
)

var managedIdentityFields = []field{
	optional("clientID", guid, "Client ID of a user-assigned identity."),
	optional("objectID", guid, "Object (principal) ID of a user-assigned identity."),
	optional("resourceID", matching(resourceIDForm.String()), "ARM resource ID of a user-assigned identity."),
}

// identity reads one thing that the broker can be at Entra, and keeps what the
// agents that may act as it need to know.
func (r *reader) identity(e entry, tenant string, sources []string) Identity {
	identity := Identity{Tenant: tenant}
	members := e.value.path
	if kind, at, ok := r.kind(e.value, &identityForm, "the identity", "what it is"); ok {
		members = r.identityOf(&identity, kind, at, members, sources)
	}
	if r.found == 0 {
		r.warnIdentity(identity, e.key)
	}
	r.choices[e.name] = choice{
		name: e.name, members: identity.Members(), rule: members, clientIDs: identity.clientIDs(),
		forUsers: identity.Application != nil || identity.Agent != nil,
	}
	return identity
}

// identityOf reads an identity of the given kind, and returns the path of what
// lists its members, or the identity's own.
func (r *reader) identityOf(identity *Identity, kind string, at place, own string, sources []string) (members string) {
	if kind == "managedIdentity" {
		identity.ManagedIdentity = r.managedIdentity(at)
		return own
	}
	fields, ok := r.fields(at, identityForm.Properties[kind])
	if !ok {
		return own
	}
	if at := fields["tenant"]; at.present() {
		identity.Tenant = r.tenant(at)
	}
	identity.Capabilities = r.capabilities(fields["clientCapabilities"])
	source, _ := r.reference(fields["source"], "source", sources)
	switch kind {
	case "application":
		identity.Application = &Application{ClientID: r.podClientID(fields["clientID"], fields["podIDs"]), Source: source}
		return own
	case "agent":
		identity.Agent = &AgentIdentity{BlueprintID: r.guid(fields["blueprintID"], blueprintHint), Source: source}
		list, items := r.list(at, fields, "agentID", "agentIDs")
		if isFromPod(fields["agentID"]) {
			identity.Agent.AgentIDs = r.podAgentIDs(fields["agentID"], fields["podIDs"])
			r.notBlueprint(r.items(fields["podIDs"]), identity.Agent.BlueprintID)
			return list.path
		}
		r.noPodIDs(fields["podIDs"])
		identity.Agent.AgentIDs = r.guids(items, agentIDHint)
		r.notBlueprint(items, identity.Agent.BlueprintID)
		return list.path
	case "agentUser":
		identity.AgentUser = &AgentUser{
			BlueprintID: r.guid(fields["blueprintID"], blueprintHint), AgentID: r.guid(fields["agentID"], agentIDHint), Source: source,
		}
		if fields["agentID"].present() {
			r.notBlueprint([]place{fields["agentID"]}, identity.AgentUser.BlueprintID)
		}
		list, items := r.list(at, fields, "username", "userID", "usernames", "userIDs")
		if strings.Contains(list.path, ".userID") {
			for _, id := range r.guids(items, objectIDHint) {
				identity.AgentUser.Users = append(identity.AgentUser.Users, AgentUserName{ObjectID: id})
			}
		} else {
			identity.AgentUser.Users = r.usernames(items)
		}
		return list.path
	}
	return own
}

func (r *reader) capabilities(at place) []string {
	values, places := r.texts(at)
	for i, value := range values {
		switch {
		case value != "cp1":
			r.problem(places[i], "there is no client capability "+quote(value), "write cp1, for continuous access evaluation, or remove the field")
		case i > 0:
			r.problem(places[i], quote(value)+" is listed twice", "remove one of the two")
		}
	}
	return values
}

// list returns the one of the named fields that is present, and its items: a
// field whose name ends in s has a list.
func (r *reader) list(at place, fields map[string]place, names ...string) (place, []place) {
	name, ok := r.choose(at, fields, names...)
	switch {
	case !ok:
		return at, nil
	case strings.HasSuffix(name, "s"):
		return fields[name], r.members(fields[name])
	}
	return fields[name], []place{fields[name]}
}

func (r *reader) notBlueprint(agents []place, blueprint string) {
	for _, at := range agents {
		if blueprint != "" && strings.EqualFold(at.node.Value, blueprint) {
			r.problem(at, "this is the blueprint, which gets no tokens of its own", agentIDHint)
		}
	}
}

func (r *reader) usernames(items []place) []AgentUserName {
	var users []AgentUserName
	once := once[string]{}
	for _, item := range items {
		text, ok := r.text(item)
		user := AgentUserName{Username: strings.ToLower(text)}
		switch {
		case !ok:
		case !printable(text) || !usernameForm.MatchString(user.Username):
			r.problem(item, quote(text)+" is not a user principal name", "write <name>@<domain>, as on the user's page in the Entra admin center")
		case once.again(user.Username):
			r.problem(item, quote(text)+" is listed twice", "remove one of the two")
		default:
			users = append(users, user)
		}
	}
	return users
}

var usernameForm = patternOf(`^[a-z0-9.'_!#^~-]{1,64}@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$`)

// resourceIDForm is the ARM id of a user-assigned identity. ARM compares the
// words of its ids without regard to case.
var resourceIDForm = patternOf(`^/` + anyCase("subscriptions") + `/[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}/` +
	anyCase("resourceGroups") + `/[A-Za-z0-9_.()-]{1,90}/` + anyCase("providers") + `/` + anyCase("Microsoft") + `\.` + anyCase("ManagedIdentity") +
	`/` + anyCase("userAssignedIdentities") + `/[A-Za-z0-9][A-Za-z0-9_-]{2,127}$`)

// anyCase matches word in capitals and small letters. It uses no flag, because
// expressions of JSON Schema have none.
func anyCase(word string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(word) {
		b.WriteString("[" + string(c) + strings.ToUpper(string(c)) + "]")
	}
	return b.String()
}

const (
	clientIDHint  = "copy the application (client) ID, not the object ID or the name"
	blueprintHint = "copy the application (client) ID of the agent identity blueprint"
	agentIDHint   = "copy the ID of the agent identity, not that of its blueprint"
	objectIDHint  = "copy the object ID from the user's page in the Entra admin center"
	portalHint    = "copy it from the identity's page in the Azure portal"
)

// managedIdentity reads which identity of the machine is meant.
func (r *reader) managedIdentity(at place) *ManagedIdentity {
	fields, ok := r.fields(at, &managedIdentityForm)
	if !ok {
		return nil
	}
	if len(fields) > 1 {
		r.choose(at, fields, managedIdentityForm.known()...)
		return nil
	}
	identity := &ManagedIdentity{ClientID: r.guid(fields["clientID"], portalHint), ObjectID: r.guid(fields["objectID"], portalHint)}
	if text, ok := r.text(fields["resourceID"]); ok {
		identity.ResourceID = text
		if !resourceIDForm.MatchString(text) {
			r.problem(fields["resourceID"], quote(text)+" is not the ARM id of a user-assigned identity",
				"write /subscriptions/<id>/resourceGroups/<name>/providers/Microsoft.ManagedIdentity/userAssignedIdentities/<name>")
		}
	}
	return identity
}
