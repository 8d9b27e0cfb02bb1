package entratest

import (
	"net/http"
	"time"
)

const imdsPath = "/metadata/identity/oauth2/token"

// NewIMDS is the Instance Metadata Service of a virtual machine, at
// http://169.254.169.254/metadata/identity/oauth2/token.
func NewIMDS(cfg ManagedIdentityConfig) (*PlatformEndpoint, error) {
	return newAzureEndpoint(cfg, identityFlavour{
		method: http.MethodGet, paths: []string{imdsPath}, minVersion: "2018-02-01",
		metadata: true, notProxied: true,
		selectors: []string{"client_id", "object_id", "msi_res_id", "mi_res_id", "msi-res-id"},
		failure:   oauthFailure,
		answer: func(t identityAnswer) map[string]any {
			return map[string]any{
				"access_token": t.token, "client_id": t.id.ClientID, "token_type": "Bearer", "resource": t.resource,
				"expires_in": seconds(t.lifetime), "ext_expires_in": seconds(t.lifetime),
				"expires_on": epoch(t.until), "not_before": epoch(t.from),
			}
		},
		environment: func(_ *PlatformEndpoint, base string) map[string]string {
			return map[string]string{"AZURE_POD_IDENTITY_AUTHORITY_HOST": base}
		},
	})
}

// NewAppService is the endpoint of App Service, Functions and Container Apps,
// protocol version 2019-08-01.
func NewAppService(cfg ManagedIdentityConfig) (*PlatformEndpoint, error) {
	return newAzureEndpoint(cfg, identityFlavour{
		method: http.MethodGet, paths: []string{"/msi/token"}, versions: []string{"2019-08-01"},
		secret:    "X-Identity-Header",
		selectors: []string{"client_id", "object_id", "principal_id", "mi_res_id", "msi_res_id"},
		failure: func(r *http.Request, status int, _, message string) reply {
			return jsonReply(status, map[string]any{"statusCode": status, "message": message, "correlationId": correlationID(r)})
		},
		answer: func(t identityAnswer) map[string]any { // no expires_in, unlike IMDS
			return map[string]any{
				"access_token": t.token, "client_id": t.id.ClientID, "expires_on": epoch(t.until), "resource": t.resource, "token_type": "Bearer",
			}
		},
		environment: func(e *PlatformEndpoint, base string) map[string]string {
			return map[string]string{
				"IDENTITY_ENDPOINT": base + "/msi/token", "IDENTITY_HEADER": e.secret,
				"MSI_ENDPOINT": base + "/msi/token", "MSI_SECRET": e.secret,
			}
		},
	})
}

// NewServiceFabric is the endpoint of a Service Fabric node. Clients want it
// served over TLS, with the certificate's thumbprint in
// IDENTITY_SERVER_THUMBPRINT, which Environment leaves out.
func NewServiceFabric(cfg ManagedIdentityConfig) (*PlatformEndpoint, error) {
	return newAzureEndpoint(cfg, identityFlavour{
		method: http.MethodGet, paths: []string{imdsPath}, versions: []string{"2019-07-01-preview", "2020-05-01"},
		secret:    "Secret",
		selectors: []string{"principalId"},
		failure:   nestedFailure,
		answer: func(t identityAnswer) map[string]any { // the only one whose expires_on is a number
			return map[string]any{"token_type": "Bearer", "access_token": t.token, "expires_on": t.until.Unix(), "resource": t.resource}
		},
		environment: func(e *PlatformEndpoint, base string) map[string]string {
			return map[string]string{"IDENTITY_ENDPOINT": base + imdsPath, "IDENTITY_HEADER": e.secret}
		},
	})
}

// NewCloudShell is the endpoint of Azure Cloud Shell: a POST with a form, and
// one identity only.
func NewCloudShell(cfg ManagedIdentityConfig) (*PlatformEndpoint, error) {
	return newAzureEndpoint(cfg, identityFlavour{
		method: http.MethodPost, paths: []string{"/oauth2/token"},
		metadata: true,
		failure:  nestedFailure,
		answer: func(t identityAnswer) map[string]any {
			return map[string]any{
				"access_token": t.token, "refresh_token": "", "token_type": "Bearer", "resource": t.resource, "scope": "user_impersonation",
				"expires_in": seconds(t.lifetime), "expires_on": epoch(t.until), "not_before": epoch(t.from),
			}
		},
		environment: func(_ *PlatformEndpoint, base string) map[string]string {
			return map[string]string{"MSI_ENDPOINT": base + "/oauth2/token"}
		},
	})
}

// NewAzureML is the endpoint of an Azure Machine Learning compute, protocol
// version 2017-09-01.
func NewAzureML(cfg ManagedIdentityConfig) (*PlatformEndpoint, error) {
	return newAzureEndpoint(cfg, identityFlavour{
		method: http.MethodGet, paths: []string{"/msi/token"}, versions: []string{"2017-09-01"},
		secret:    "Secret",
		selectors: []string{"clientid"},
		failure:   oauthFailure,
		answer: func(t identityAnswer) map[string]any {
			expires := epoch(t.until)
			if cfg.LegacyDates {
				expires = t.until.UTC().Format("01/02/2006 15:04:05 -07:00")
			}
			return map[string]any{"access_token": t.token, "resource": t.resource, "token_type": "Bearer", "expires_on": expires}
		},
		environment: func(e *PlatformEndpoint, base string) map[string]string {
			return map[string]string{"MSI_ENDPOINT": base + "/msi/token", "MSI_SECRET": e.secret}
		},
	})
}

func newAzureEndpoint(cfg ManagedIdentityConfig, flavour identityFlavour) (*PlatformEndpoint, error) {
	e, err := newIdentityEndpoint(cfg, flavour)
	if err != nil {
		return nil, err
	}
	return e.PlatformEndpoint, nil
}

func oauthFailure(_ *http.Request, status int, code, message string) reply {
	return jsonReply(status, map[string]string{"error": code, "error_description": message})
}

func nestedFailure(r *http.Request, status int, code, message string) reply {
	return jsonReply(status, map[string]any{"error": map[string]string{
		"code": code, "message": message, "correlationId": correlationID(r),
	}})
}

// timestamp is how the JSON and XML APIs of other platforms write a time.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
