package entratest

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// requestedClaim is what a claims request says about one claim.
type requestedClaim struct {
	Essential bool  `json:"essential"`
	Value     any   `json:"value"`
	Values    []any `json:"values"`
}

// texts are the values asked for that are text or numbers.
func (r requestedClaim) texts() []string {
	var all []string
	for _, v := range append([]any{r.Value}, r.Values...) {
		switch v := v.(type) {
		case string:
			all = append(all, v)
		case float64:
			all = append(all, strconv.FormatFloat(v, 'f', -1, 64))
		}
	}
	return all
}

// claimsRequest is the access_token part of the parameter claims (OpenID
// Connect Core 5.5), by name of the claim.
type claimsRequest map[string]requestedClaim

// parseClaimsRequest reads the parameter. Members that are no requests for a
// claim are ignored, as everywhere in OpenID Connect.
func parseClaimsRequest(raw string) (claimsRequest, error) {
	if raw == "" {
		return nil, nil
	}
	var doc map[string]json.RawMessage
	if json.Unmarshal([]byte(raw), &doc) != nil || doc == nil {
		return nil, refuse(90023, "claims is not a JSON object")
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(doc["access_token"], &members) != nil {
		return nil, nil
	}
	request := claimsRequest{}
	for name, value := range members {
		var r requestedClaim
		if json.Unmarshal(value, &r) == nil {
			request[name] = r
		}
	}
	return request, nil
}

// capabilities are what the client says it can do: xms_cc.
func (r claimsRequest) capabilities() []string { return r["xms_cc"].texts() }

// handlesChallenges says that the client has the capability cp1.
func (r claimsRequest) handlesChallenges() bool {
	return slices.ContainsFunc(r.capabilities(), func(c string) bool { return strings.EqualFold(c, "cp1") })
}

// contexts are the authentication contexts asked for: acrs.
func (r claimsRequest) contexts() []string { return r["acrs"].texts() }

// notBefore is the time after which the token must have been issued, or zero.
func (r claimsRequest) notBefore() time.Time {
	for _, text := range r["nbf"].texts() {
		if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
			return time.Unix(seconds, 0)
		}
	}
	return time.Time{}
}

// authenticationContext refuses a token that must have an authentication
// context which only multi-factor authentication gives.
func authenticationContext(g *grant, methods []string) error {
	r := g.claims["acrs"]
	if !r.Essential || len(r.texts()) == 0 || slices.Contains(methods, "mfa") {
		return nil
	}
	request, err := json.Marshal(map[string]any{"access_token": map[string]any{
		"acrs": map[string]any{"essential": true, "value": r.texts()[0]},
	}})
	if err != nil {
		return err
	}
	return refuseWithClaims(50076, string(request), g.scope.resource.ClientID)
}
