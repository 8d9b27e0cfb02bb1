package workload

import (
	"cmp"
	"context"
	"net/http"
)

// GoogleMetadata asks the metadata server of a Google Cloud instance for the
// identity token of its default service account: metadata.google.internal, or
// GCE_METADATA_HOST, which must then be loopback or 169.254.169.254. The link has
// no TLS and does not leave the host. See
// https://cloud.google.com/compute/docs/instances/verifying-instance-identity.
type GoogleMetadata struct {
	Audience string // required
	// Transport sends the request, as in HTTP. Nil: without a proxy.
	Transport http.RoundTripper
	// Getenv reads a variable. Nil: os.Getenv.
	Getenv func(string) string
}

// Assertion implements Source.
func (g GoogleMetadata) Assertion(ctx context.Context) (Assertion, error) {
	const who = "the Google metadata server"
	if g.Audience == "" {
		return Assertion{}, noAudience(who)
	}
	host := cmp.Or(getenv(g.Getenv, "GCE_METADATA_HOST"), googleHost)
	u, err := parseURL(who, "http://"+host+"/computeMetadata/v1/instance/service-accounts/default/identity?format=full")
	if err != nil {
		return Assertion{}, err
	}
	return request{
		who: who, method: http.MethodGet, url: withQuery(u, "audience", g.Audience), plain: []string{linkLocalHost, googleHost},
		header: http.Header{"Metadata-Flavor": {"Google"}}, transport: g.Transport,
		denied: "attach a service account to the instance (on GKE: let the Kubernetes service account act as a Google one)",
	}.token(ctx)
}
