package exchange

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// refresh goes on acting for a user by the refresh token of an earlier answer
// (RFC 6749 §6). MSAL Go redeems only those that are in a cache of its own, so
// the form is made here.
func (c *call) refresh(ctx context.Context, p proof) error {
	a := c.ask
	form := url.Values{
		"client_id":             {a.client},
		"grant_type":            {grantRefreshToken},
		"refresh_token":         {a.user.Session.Reveal()},
		"scope":                 {strings.Join(a.scopes, " ") + " openid offline_access profile"},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {p.assertion.Reveal()},
	}
	claims, err := withCapabilities(a.claims, a.capabilities)
	if err != nil {
		return err
	}
	if claims != "" {
		form.Set("claims", claims)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.tokenURL(), strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body) // read has taken it in already
	return errors.Join(err, resp.Body.Close())
}

// withCapabilities adds the client's capabilities to a claims request, as
// access_token.xms_cc.
func withCapabilities(claims string, capabilities []string) (string, error) {
	if len(capabilities) == 0 {
		return claims, nil
	}
	request := map[string]any{}
	if claims != "" {
		if err := json.Unmarshal([]byte(claims), &request); err != nil {
			return "", err // Request.check has read it
		}
	}
	token, ok := request["access_token"].(map[string]any)
	if !ok {
		token = map[string]any{}
	}
	token["xms_cc"] = map[string]any{"values": capabilities}
	request["access_token"] = token
	text, err := json.Marshal(request)
	return string(text), err
}
