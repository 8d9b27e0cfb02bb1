package entratest

import (
	"maps"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const jwksMediaType = "application/jwk-set+json"

var (
	onlyRS256 = []jose.SignatureAlgorithm{jose.RS256}

	// kubernetesDiscovery is what every API server says of itself.
	kubernetesDiscovery = map[string]any{
		"response_types_supported": []string{"id_token"},
		"subject_types_supported":  []string{"public"},
	}
	kubernetesForms = []subjectForm{{name: "serviceaccount", subject: "system:serviceaccount:{namespace}:{serviceaccount}"}}
	kubernetesClaim = map[string]any{"kubernetes.io": map[string]any{
		"namespace":      "{namespace}",
		"node":           map[string]any{"name": "{node}", "uid": guid{"node", "{namespace}", "{node}"}},
		"pod":            map[string]any{"name": "{pod}", "uid": guid{"pod", "{namespace}", "{pod}"}},
		"serviceaccount": map[string]any{"name": "{serviceaccount}", "uid": guid{"serviceaccount", "{namespace}", "{serviceaccount}"}},
	}}
)

// kubernetesPlatforms differ in the issuer, the place of the keys and what else
// their discovery documents say; the tokens are the API server's.
var kubernetesPlatforms = map[Platform]platform{
	Kubernetes: cluster(platform{
		issuer: "https://{host}",
		jwks:   "{issuer}/openid/v1/jwks",
		keyID:  sha256KeyID,
	}, map[string]string{"host": "kubernetes.default.svc.cluster.local"}),
	AKS: cluster(platform{
		issuer: "https://{region}.oic.prod-aks.azure.com/{tenant}/{cluster}/",
		jwks:   "{issuer}/openid/v1/jwks",
		keyID:  sha256KeyID,
	}, map[string]string{"region": "westeurope", "tenant": "5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10", "cluster": "0d1b3c55-8a7e-4f6b-9a3c-2f4e6d8c0b1a"}),
	EKS: cluster(platform{
		issuer: "https://oidc.eks.{region}.amazonaws.com/id/{cluster}",
		jwks:   "{issuer}/keys",
		keyID:  hexKeyID,
		discovery: map[string]any{
			"authorization_endpoint": "urn:kubernetes:programmatic_authorization",
			"claims_supported":       []string{"sub", "iss"},
		},
	}, map[string]string{"region": "eu-west-1", "cluster": "EXAMPLED539D4633E53DE1B71EXAMPLE"}),
	GKE: cluster(platform{
		issuer: "https://container.googleapis.com/v1/projects/{project}/locations/{location}/clusters/{cluster}",
		jwks:   "{issuer}/jwks",
		keyID:  sha256KeyID,
		discovery: map[string]any{
			"claims_supported": []string{"iss", "sub", "kubernetes.io"},
			"grant_types":      []string{"urn:kubernetes:grant_type:programmatic_authorization"},
		},
	}, map[string]string{"project": "demo-project", "location": "europe-west1", "cluster": "demo"}),
}

// cluster completes a row with what all Kubernetes clusters have in common.
func cluster(p platform, parameters map[string]string) platform {
	p.parameters = map[string]string{
		"namespace": "agents", "serviceaccount": "demo", "pod": "demo-6c9f7b5d4-x2k8q", "node": "node-1",
	}
	maps.Copy(p.parameters, parameters)
	discovery := maps.Clone(kubernetesDiscovery)
	maps.Copy(discovery, p.discovery)
	p.discovery = discovery
	p.forms, p.claims = kubernetesForms, kubernetesClaim
	p.lifetime, p.nbf, p.jti, p.audienceList = time.Hour, true, true, true
	p.jwksType, p.algorithms = jwksMediaType, onlyRS256
	return p
}
