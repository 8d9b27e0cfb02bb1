package policy

import (
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"
)

// Source says where a workload token comes from. Exactly one field is set.
type Source struct {
	File            *FileSource
	Env             *EnvSource
	HTTP            *HTTPSource
	GitHub          *GitHubSource
	GitLab          *GitLabSource
	AzureDevOps     *AzureDevOpsSource
	Terraform       *TerraformSource
	CircleCI        *CircleCISource
	Vault           *VaultSource
	Google          *GoogleSource
	Kubernetes      *KubernetesSource
	Exec            *ExecSource
	Buildkite       *BuildkiteSource
	AWS             *AWSSource
	SPIFFE          *SPIFFESource
	ManagedIdentity *ManagedIdentitySource
}

// FileSource is a workload token that the platform keeps in a file.
type FileSource struct{ Path string }

// EnvSource is a workload token in an environment variable of the broker.
type EnvSource struct{ Name string }

// GitHubSource is the ID token of a GitHub Actions job.
type GitHubSource struct{}

// GitLabSource is an ID token of a GitLab job, in the variable of that name.
type GitLabSource struct{ Name string }

// AzureDevOpsSource is the token of a service connection of Azure Pipelines.
type AzureDevOpsSource struct{ ServiceConnectionID string } // lower-case GUID

// TerraformSource is the token of a run of HCP Terraform.
type TerraformSource struct{ Tag string } // "" for the token without a tag

// CircleCISource is the token of a CircleCI job.
type CircleCISource struct{}

// VaultSource is an identity token of HashiCorp Vault.
type VaultSource struct {
	Role      string
	TokenFile string // file with the Vault token; "" for the variable VAULT_TOKEN
}

// GoogleSource is the identity token of a Google Cloud instance.
type GoogleSource struct{}

// KubernetesSource is a token that the pod asks the cluster's API server for.
type KubernetesSource struct {
	Namespace      string // "" for the pod's own
	ServiceAccount string
}

// ExecSource is a workload token that a command prints.
type ExecSource struct {
	Command   []string      // an absolute path, and arguments; never empty
	Timeout   time.Duration // 0 when the file does not say
	Variables []string      // further variables that the command gets
}

// BuildkiteSource is the token of a Buildkite job.
type BuildkiteSource struct{}

// AWSSource is a token of AWS STS for the identity that the broker has at AWS.
type AWSSource struct{ Region string } // "" for the region of the environment

// SPIFFESource is a JWT-SVID of the SPIFFE Workload API.
type SPIFFESource struct {
	Socket   string // unix:///path; "" for the variable SPIFFE_ENDPOINT_SOCKET
	SPIFFEID string // which of the broker's SPIFFE ids; "" for its first
}

// ManagedIdentitySource is a token of a user-assigned managed identity of this
// machine. Exactly one field is set: Entra accepts no system-assigned one as a
// federated credential.
type ManagedIdentitySource ManagedIdentity

// source reads one way to get a workload token.
func (r *reader) source(at place) Source {
	kind, value, ok := r.kind(at, &sourceForm, "the source", "where the token comes from")
	if !ok {
		return Source{}
	}
	return r.sourceOf(kind, value)
}

func (r *reader) sourceOf(kind string, at place) Source {
	var source Source
	switch kind {
	case "aws":
		source.AWS = &AWSSource{Region: r.matching(r.only(at, &awsForm), regionForm, "a region such as eu-central-1")}
	case "azureDevOps":
		id := r.guid(r.only(at, &azureDevOpsForm), "copy it from the address of the service connection's page")
		source.AzureDevOps = &AzureDevOpsSource{ServiceConnectionID: id}
	case "buildkite":
		r.nothing(at)
		source.Buildkite = &BuildkiteSource{}
	case "circleci":
		r.nothing(at)
		source.CircleCI = &CircleCISource{}
	case "env":
		name, _ := r.variable(r.only(at, &variableNameForm))
		source.Env = &EnvSource{Name: name}
	case "exec":
		source.Exec = r.execSource(at)
	case "file":
		path, _ := r.filePath(r.only(at, &fileForm))
		source.File = &FileSource{Path: path}
	case "github":
		r.nothing(at)
		source.GitHub = &GitHubSource{}
	case "gitlab":
		name, _ := r.variable(r.only(at, &variableNameForm))
		source.GitLab = &GitLabSource{Name: name}
	case "google":
		r.nothing(at)
		source.Google = &GoogleSource{}
	case "http":
		source.HTTP = r.httpSource(at)
	case "kubernetes":
		source.Kubernetes = r.kubernetesSource(at)
	case "managedIdentity":
		source.ManagedIdentity = r.managedIdentitySource(at)
	case "spiffe":
		source.SPIFFE = r.spiffeSource(at)
	case "terraform":
		source.Terraform = &TerraformSource{Tag: r.matching(r.only(at, &terraformForm), tagForm, "letters, digits and underscores")}
	case "vault":
		source.Vault = r.vaultSource(at)
	}
	return source
}

func (r *reader) execSource(at place) *ExecSource {
	fields, _ := r.fields(at, &execForm)
	source := &ExecSource{}
	if at := fields["command"]; at.present() {
		before := r.found
		var places []place
		source.Command, places = r.texts(at)
		switch {
		case r.found > before:
		case len(places) == 0:
			r.problem(at, "there is no command", "write [/path/of/the/program, argument]")
		case !filepath.IsAbs(source.Command[0]):
			r.problem(places[0], quote(source.Command[0])+" is not an absolute path", "write the whole path of the program: PATH is not searched, and there is no shell")
		}
	}
	if text, ok := r.text(fields["timeout"]); ok {
		var err error
		if source.Timeout, err = time.ParseDuration(text); err != nil || !timeoutForm.MatchString(text) || source.Timeout > maxTimeout {
			r.problem(fields["timeout"], "want 1s to 30s, got "+quote(text), "write whole seconds, such as 10s")
			source.Timeout = 0
		}
	}
	for _, item := range r.items(fields["variables"]) {
		if name, ok := r.variable(item); ok {
			source.Variables = append(source.Variables, name)
		}
	}
	return source
}

var timeoutForm = patternOf(`^[1-9][0-9]?s$`)

// maxTimeout is what an exchange can wait for.
const maxTimeout = 30 * time.Second

func (r *reader) kubernetesSource(at place) *KubernetesSource {
	fields, _ := r.fields(at, &kubernetesFields)
	const want = "a name of a-z, 0-9, hyphen and dot"
	return &KubernetesSource{
		Namespace:      r.matching(fields["namespace"], kubernetesForm, want),
		ServiceAccount: r.matching(fields["serviceAccount"], kubernetesForm, want),
	}
}

func (r *reader) vaultSource(at place) *VaultSource {
	fields, _ := r.fields(at, &vaultFields)
	source := &VaultSource{Role: r.matching(fields["role"], vaultForm, "the name of a role")}
	if at := fields["tokenFile"]; at.present() {
		source.TokenFile, _ = r.filePath(at)
	}
	return source
}

// nothing reads a mapping without fields.
func (r *reader) nothing(at place) {
	entries, _ := r.entries(at)
	for _, e := range entries {
		r.problem(e.key, "unknown field "+quote(e.name), "write {}: the rest follows from the platform's environment and from the cloud")
	}
}

// only reads a mapping with the one field that f has; a field that is absent
// is the zero place.
func (r *reader) only(at place, f *form) place {
	fields, _ := r.fields(at, f)
	return fields[f.known()[0]]
}

func (r *reader) spiffeSource(at place) *SPIFFESource {
	fields, _ := r.fields(at, &spiffeForm)
	return &SPIFFESource{
		Socket:   r.matching(fields["socket"], socketForm, "unix:///<path of the socket>"),
		SPIFFEID: r.matching(fields["id"], spiffeIDForm, "spiffe://<trust domain>/<path>"),
	}
}

func (r *reader) managedIdentitySource(at place) *ManagedIdentitySource {
	identity := r.managedIdentity(at)
	if identity == nil {
		return nil
	}
	if at.node.Kind == yaml.MappingNode && len(at.node.Content) == 0 {
		r.problem(at, "the source does not say which managed identity", "add clientID, objectID or resourceID of a user-assigned one: Entra accepts no system-assigned one as a federated credential")
	}
	return (*ManagedIdentitySource)(identity)
}

// The forms of names that become part of a URL or of a variable's name.
var (
	tagForm        = patternOf(`^[A-Za-z0-9_]{1,64}$`)
	vaultForm      = patternOf(`^\w([\w.-]{0,126}\w)?$`)
	regionForm     = patternOf(`^[a-z]{2}(-[a-z]{2,12}){1,3}-[0-9]{1,2}$`)
	socketForm     = patternOf(`^unix://(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$`)
	spiffeIDForm   = patternOf(`^spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$`)
	kubernetesForm = patternOf(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?){0,8}$`)
)

var variableForm = patternOf(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// variable reads the name of an environment variable. A value that stands in
// its place may be a token, so the message does not repeat it.
func (r *reader) variable(at place) (string, bool) {
	name, ok := r.text(at)
	if ok && !variableForm.MatchString(name) {
		r.problem(at, "this is not the name of an environment variable", "write the name, without $ and braces, and not the value: letters, digits and underscores")
		return "", false
	}
	return name, ok
}
