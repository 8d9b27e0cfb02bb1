package entratest

import (
	"time"

	"github.com/go-jose/go-jose/v4"
)

const awsNamespace = "https://sts.amazonaws.com/"

// cloudPlatforms are the identity systems of clouds, meshes and secret stores.
var cloudPlatforms = map[Platform]platform{
	SPIFFE:      spiffe,
	AWS:         aws,
	GoogleCloud: googleCloud,
	Vault:       vault,
}

var spiffe = platform{
	issuer: "https://{issuer_host}",
	parameters: map[string]string{
		"issuer_host": "oidc-discovery.demo.example", "trust_domain": "demo.example", "path": "ns/agents/sa/demo",
	},
	forms:    []subjectForm{{name: "spiffe", subject: "spiffe://{trust_domain}/{path}"}},
	lifetime: 5 * time.Minute, audienceList: true,
	header: typJWT,
	jwks:   "{issuer}/keys",
	discovery: map[string]any{
		"authorization_endpoint":   "",
		"response_types_supported": []string{"id_token"},
		"subject_types_supported":  []string{},
		// What the provider could verify, whatever the keys are.
		"id_token_signing_alg_values_supported": []string{"RS256", "ES256", "ES384"},
	},
	withoutUse: true,
	algorithms: []jose.SignatureAlgorithm{jose.ES256},
	keyID:      alphanumericKeyID,
}

var aws = platform{
	issuer: "https://{issuer_id}.tokens.sts.global.api.aws",
	parameters: map[string]string{
		"issuer_id": "0b1c2d3e-4f50-4617-8293-a4b5c6d7e8f9", "account": "123456789012", "role": "PaymentsAgent", "user": "ada",
		"region": "eu-west-1", "organization": "o-abc1234567", "unit": "o-abc1234567/r-ab12/ou-ab12-11111111/",
	},
	forms: []subjectForm{
		{name: "role", subject: "arn:aws:iam::{account}:role/{role}"},
		{name: "user", subject: "arn:aws:iam::{account}:user/{user}"},
	},
	claims: map[string]any{awsNamespace: map[string]any{
		"aws_account":    "{account}",
		"source_region":  "{region}",
		"org_id":         "{organization}",
		"ou_path":        []string{"{unit}"},
		"principal_tags": map[string]any{"environment": "production"},
	}},
	lifetime: 5 * time.Minute, jti: true,
	header: typJWT,
	jwks:   "{issuer}/.well-known/jwks.json",
	discovery: map[string]any{
		"response_types_supported": []string{"id_token"},
		"subject_types_supported":  []string{"public"},
		"claims_supported":         []string{"sub", "aud", "exp", "iat", "iss", "jti", awsNamespace},
	},
	algorithms: []jose.SignatureAlgorithm{jose.RS256, jose.ES384},
	keyID:      awsKeyID,
}

var googleCloud = platform{
	issuer: "https://accounts.google.com",
	parameters: map[string]string{
		"unique_id": "112233445566778899001", "email": "demo@demo-project.iam.gserviceaccount.com", "project": "demo-project",
		"project_number": "739419398126", "zone": "europe-west1-b", "instance": "demo", "instance_id": "152986662232938449",
		"instance_created": "1763600000",
	},
	forms: []subjectForm{
		{name: "standard", subject: "{unique_id}"},
		{"full", "{unique_id}", map[string]any{
			"email": "{email}", "email_verified": true,
			"google": map[string]any{"compute_engine": map[string]any{
				"project_id": "{project}", "project_number": number("{project_number}"), "zone": "{zone}",
				"instance_id": "{instance_id}", "instance_name": "{instance}", "instance_creation_timestamp": number("{instance_created}"),
			}},
		}},
	},
	claims:   map[string]any{"azp": "{unique_id}"},
	lifetime: time.Hour,
	header:   typJWT,
	jwks:     "{origin}/oauth2/v3/certs", jwksOrigin: "https://www.googleapis.com",
	discovery: map[string]any{
		"authorization_endpoint":                "{origin}/o/oauth2/v2/auth",
		"device_authorization_endpoint":         "https://oauth2.googleapis.com/device/code",
		"token_endpoint":                        "https://oauth2.googleapis.com/token",
		"userinfo_endpoint":                     "https://openidconnect.googleapis.com/v1/userinfo",
		"revocation_endpoint":                   "https://oauth2.googleapis.com/revoke",
		"response_types_supported":              []string{"code", "token", "id_token", "code token", "code id_token", "token id_token", "code token id_token", "none"},
		"subject_types_supported":               []string{"public"},
		"scopes_supported":                      []string{"openid", "email", "profile"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "client_secret_basic"},
		"claims_supported":                      []string{"aud", "email", "email_verified", "exp", "family_name", "given_name", "iat", "iss", "name", "picture", "sub"},
	},
	algorithms: onlyRS256,
	keyID:      hexKeyID,
}

var vault = platform{
	issuer: "https://{host}/v1/identity/oidc",
	parameters: map[string]string{
		"host": "vault.demo.example:8200", "entity_id": "7d2e3179-f69b-450c-7179-ac8ee8bd8ca9", "namespace": "root",
	},
	forms:    []subjectForm{{name: "entity", subject: "{entity_id}"}},
	claims:   map[string]any{"namespace": "{namespace}"},
	lifetime: 24 * time.Hour,
	jwks:     "{issuer}/.well-known/keys",
	discovery: map[string]any{
		"response_types_supported":              []string{"id_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"},
	},
	algorithms: onlyRS256,
	keyID:      guidKeyID,
}
