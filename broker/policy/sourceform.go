package policy

// The fields of the sources.
var (
	fileForm         = fieldsOf(required("path", anyText, "Path of the file; a relative one is relative to the policy file."))
	variableNameForm = fieldsOf(required("name", matching(variableForm.String()), "Name of the environment variable, not its value."))
	azureDevOpsForm  = fieldsOf(required("serviceConnectionID", guid, "ID of the service connection."))
	terraformForm    = fieldsOf(optional("tag", matching(tagForm.String()), "Tag of the token, when the run has several."))
	awsForm          = fieldsOf(optional("region", matching(regionForm.String()), "Region whose STS is asked, when it is not that of the environment."))
	execForm         = fieldsOf(
		required("command", form{Type: "array", MinItems: 1, PrefixItems: []*form{{Type: "string", Pattern: `^(/|\\|[A-Za-z]:)`}}, Items: &anyText}, "Absolute path of the program, then its arguments; there is no shell."),
		optional("timeout", matching(timeoutForm.String()), "How long the command may take: 1s to 30s."),
		optional("variables", list(matching(variableForm.String())), "Names of further environment variables that the command gets."),
	)
	kubernetesFields = fieldsOf(
		required("serviceAccount", matching(kubernetesForm.String()), "Name of the service account."),
		optional("namespace", matching(kubernetesForm.String()), "Namespace of the service account, when it is not the pod's own."),
	)
	vaultFields = fieldsOf(
		required("role", matching(vaultForm.String()), "Name of the role whose identity token is asked for."),
		optional("tokenFile", anyText, "File with the Vault token, instead of the variable VAULT_TOKEN."),
	)
	spiffeForm = fieldsOf(
		optional("socket", matching(socketForm.String()), "Socket of the Workload API, instead of the variable SPIFFE_ENDPOINT_SOCKET."),
		optional("id", matching(spiffeIDForm.String()), "Which of the broker's SPIFFE IDs, when it has several."),
	)
	headerSourceForm = fieldsOf(
		optional("env", matching(variableForm.String()), "Environment variable that has the value."),
		optional("file", anyText, "File that has the value."),
		optional("prefix", anyText, "Text before the value, such as \"Bearer \"."),
	).exactlyOne("env", "file")
	httpForm = fieldsOf(
		required("url", anyText, "Where the token is fetched: https, or http on this machine."),
		optional("method", oneOf("GET", "POST"), "HTTP method; GET when absent."),
		optional("pointer", matching(pointerForm.String()), "JSON pointer (RFC 6901) to the token in the answer, where it is not in a form that platforms use."),
		optional("headers", form{
			Type: "object", PropertyNames: &form{Pattern: headerForm.String()}, AdditionalProperties: &form{AnyOf: []*form{&anyText, &headerSourceForm}},
		}, "Request headers: a value, or where to read it."),
	)
	userAssignedForm = fieldsOf(managedIdentityFields...).exactlyOne("clientID", "objectID", "resourceID")
	nothingForm      = fieldsOf()

	sourceForm = oneKind(
		optional("aws", awsForm, "A token of AWS STS for the identity that the broker has at AWS."),
		optional("azureDevOps", azureDevOpsForm, "The token of a service connection of Azure Pipelines."),
		optional("buildkite", nothingForm, "The token of a Buildkite job."),
		optional("circleci", nothingForm, "The token of a CircleCI job."),
		optional("env", variableNameForm, "A token in an environment variable of the broker."),
		optional("exec", execForm, "A token that a command prints."),
		optional("file", fileForm, "A token that the platform keeps in a file, such as a projected service account token."),
		optional("github", nothingForm, "The ID token of a GitHub Actions job."),
		optional("gitlab", variableNameForm, "The ID token of a GitLab job, in the variable of that name."),
		optional("google", nothingForm, "The identity token of a Google Cloud instance."),
		optional("http", httpForm, "A token that a server hands out."),
		optional("kubernetes", kubernetesFields, "A token that the pod asks the cluster's API server for."),
		optional("managedIdentity", userAssignedForm, "A token of a user-assigned managed identity of this machine."),
		optional("spiffe", spiffeForm, "A JWT-SVID of the SPIFFE Workload API."),
		optional("terraform", terraformForm, "The token of a run of HCP Terraform."),
		optional("vault", vaultFields, "An identity token of HashiCorp Vault."),
	)
)
