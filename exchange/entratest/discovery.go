package entratest

import (
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// v1Issuer is the first part of the issuer of v1 tokens. In Entra it is not the
// host of the authority either.
const v1Issuer = "https://sts.windows.net/"

// sharedNames are the tenant names that stand for many tenants.
var sharedNames = map[string]bool{"common": true, "organizations": true, "consumers": true}

// issuer is the iss claim of a tenant's tokens.
func (s *Server) issuer(tenantID string, version int) string {
	if version == 1 {
		return v1Issuer + tenantID + "/"
	}
	return s.cfg.BaseURL + "/" + tenantID + "/v2.0"
}

// findTenant resolves the tenant part of a path.
func (s *Server) findTenant(name string, rec *Request) (*tenant, error) {
	rec.Tenant = recordable(name)
	lower := strings.ToLower(name)
	t, ok := s.tenants[lower]
	switch {
	case ok:
		rec.Tenant = t.ID
		return t, nil
	case canonicalGUID(name) == "" && !domainName.MatchString(lower):
		return nil, refuse(900023, name)
	}
	return nil, refuse(90002, name)
}

// metadata serves the OIDC discovery document. The shared names get a
// placeholder where the tenant would be, as in Entra.
func (s *Server) metadata(r *http.Request, name string, version int, rec *Request) reply {
	id, path := "{tenantid}", strings.ToLower(name)
	if !sharedNames[path] {
		t, err := s.findTenant(name, rec)
		if err != nil {
			return s.refused(err, rec)
		}
		id, path = t.ID, t.ID
	}
	rec.Tenant = path
	base := s.cfg.BaseURL + "/" + path
	oauth, keys := base+"/oauth2/v2.0", base+"/discovery/v2.0/keys"
	if version == 1 {
		oauth, keys = base+"/oauth2", base+"/discovery/keys"
	}
	doc := map[string]any{
		"issuer":                                s.issuer(id, version),
		"authorization_endpoint":                oauth + "/authorize",
		"token_endpoint":                        oauth + "/token",
		"jwks_uri":                              keys,
		"device_authorization_endpoint":         oauth + "/devicecode",
		"end_session_endpoint":                  oauth + "/logout",
		"kerberos_endpoint":                     base + "/kerberos",
		"userinfo_endpoint":                     "https://graph.microsoft.com/oidc/userinfo",
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
		"response_modes_supported":              []string{"query", "fragment", "form_post"},
		"response_types_supported":              []string{"code", "id_token", "code id_token", "id_token token"},
		"subject_types_supported":               []string{"pairwise"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"scopes_supported":                      []string{"openid", "profile", "email", "offline_access"},
		"request_uri_parameter_supported":       false,
		"http_logout_supported":                 true,
		"frontchannel_logout_supported":         true,
		"claims_supported":                      []string{"sub", "iss", "cloud_instance_name", "cloud_instance_host_name", "cloud_graph_host_name", "msgraph_host", "aud", "exp", "iat", "auth_time", "acr", "nonce", "preferred_username", "name", "tid", "ver", "at_hash", "c_hash", "email"},
		"tenant_region_scope":                   "WW",
		"cloud_instance_name":                   "microsoftonline.com",
		"cloud_graph_host_name":                 "graph.windows.net",
		"msgraph_host":                          "graph.microsoft.com",
		"rbac_url":                              "https://pas.windows.net",
	}
	return s.published(rec, doc)
}

// jwks serves the signing keys, which all tenants share.
func (s *Server) jwks(_ *http.Request, name string, version int, rec *Request) reply {
	if path := strings.ToLower(name); sharedNames[path] {
		rec.Tenant = path
	} else if _, err := s.findTenant(name, rec); err != nil {
		return s.refused(err, rec)
	}
	keys, err := s.keys.published()
	if err != nil {
		return s.refused(err, rec)
	}
	set := make([]map[string]any, 0, len(keys))
	for _, k := range keys {
		public := k.private.PublicKey
		jwk := map[string]any{
			"kty": "RSA",
			"use": "sig",
			"kid": k.id,
			"x5t": k.id,
			"n":   base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
			"e":   base64.RawURLEncoding.EncodeToString(big.NewInt(int64(public.E)).Bytes()),
			"x5c": []string{base64.StdEncoding.EncodeToString(k.certificate.Raw)},
		}
		if version == 2 {
			jwk["cloud_instance_name"] = "microsoftonline.com"
			jwk["issuer"] = s.issuer("{tenantid}", 2)
		}
		set = append(set, jwk)
	}
	return s.published(rec, map[string]any{"keys": set})
}

// publicClouds are the hosts of each cloud; the first is the preferred one.
var publicClouds = [][]string{
	{"login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"},
	{"login.partner.microsoftonline.cn", "login.chinacloudapi.cn"},
	{"login.microsoftonline.us", "login.usgovcloudapi.net"},
}

// instanceDiscovery says which hosts are the same cloud. The emulator's own
// host is one, or clients that insist on discovery would never cache.
func (s *Server) instanceDiscovery(r *http.Request, rec *Request) reply {
	asked, err := url.Parse(r.URL.Query().Get("authorization_endpoint"))
	if err != nil || asked.Host == "" {
		return s.refused(refuse(900144, "authorization_endpoint"), rec)
	}
	clouds := publicClouds
	if own := strings.TrimPrefix(s.cfg.BaseURL, "https://"); !slices.Contains(slices.Concat(clouds...), own) {
		clouds = append([][]string{{own}}, clouds...)
	}
	if !slices.Contains(slices.Concat(clouds...), strings.ToLower(asked.Host)) {
		return s.refused(refuse(50049), rec)
	}
	metadata := make([]map[string]any, 0, len(clouds))
	for _, hosts := range clouds {
		cache := hosts[0]
		if cache == "login.microsoftonline.com" {
			cache = "login.windows.net"
		}
		metadata = append(metadata, map[string]any{"preferred_network": hosts[0], "preferred_cache": cache, "aliases": hosts})
	}
	tenantName, _, _ := strings.Cut(strings.TrimPrefix(asked.Path, "/"), "/")
	return s.published(rec, map[string]any{
		"tenant_discovery_endpoint": "https://" + asked.Host + "/" + tenantName + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata":                  metadata,
	})
}

// published is a public document: clients may keep it for a day.
func (s *Server) published(rec *Request, doc map[string]any) reply {
	rep := s.document(http.StatusOK, rec, doc)
	rep.header.Set("Cache-Control", "max-age=86400, private")
	rep.header.Del("Pragma")
	rep.header.Del("Expires")
	rep.header.Set("Access-Control-Allow-Origin", "*")
	return rep
}

// pairwise is the sub of a user for one application.
func pairwise(userID, clientID string) string {
	sum := sha256.Sum256([]byte(userID + "\x00" + clientID))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
