package usertoken

import (
	"time"

	"github.com/go-jose/go-jose/v4/json"
)

// claims are the claims that are looked at, of v1 and v2 access tokens. What is not
// here, such as the user's name, is never read. See
// https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference.
type claims struct {
	Issuer   string `json:"iss"`
	TenantID string `json:"tid"`
	Audience texts  `json:"aud"`
	Version  string `json:"ver"`

	Expires   numericDate `json:"exp"`
	NotBefore numericDate `json:"nbf"`
	IssuedAt  numericDate `json:"iat"`

	ObjectID string `json:"oid"`
	Subject  string `json:"sub"`
	ClientV1 string `json:"appid"`
	ClientV2 string `json:"azp"`
	Scopes   string `json:"scp"` // separated by spaces
	Roles    texts  `json:"roles"`
	Type     string `json:"idtyp"`

	// Members of id tokens only (OpenID Connect Core 1.0 §2, §3.1.3.6, §3.3.2.11).
	Nonce           json.RawMessage `json:"nonce"`
	AccessTokenHash json.RawMessage `json:"at_hash"`
	CodeHash        json.RawMessage `json:"c_hash"`

	Account          json.RawMessage `json:"acct"` // 0 for members, 1 for guests
	IdentityProvider string          `json:"idp"`
	Relations        string          `json:"xms_idrel"` // numbers separated by spaces; 5 for guests

	Groups     texts           `json:"groups"`
	HasGroups  json.RawMessage `json:"hasgroups"`
	ClaimNames map[string]any  `json:"_claim_names"` // of claims that are elsewhere

	Contexts texts  `json:"acrs"`
	Methods  texts  `json:"amr"`
	UniqueID string `json:"uti"`
}

// client is the application that the token was issued to, whichever version names it.
func (c *claims) client() string {
	if c.Version == version1 {
		return c.ClientV1
	}
	return c.ClientV2
}

// texts is one string or a list of them, as aud may be (RFC 7519 §4.1.3).
type texts []string

func (t *texts) UnmarshalJSON(data []byte) error {
	var one string
	if len(data) > 0 && data[0] == '"' {
		if err := json.Unmarshal(data, &one); err != nil {
			return err
		}
		*t = texts{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(t))
}

// numericDate is seconds since the epoch, whole or not (RFC 7519 §2). The zero value is
// a date that is not there.
type numericDate struct{ time time.Time }

// latestDate keeps dates inside what time.Time prints with four-digit years.
const latestDate = 253402300799

func (d *numericDate) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	var seconds float64
	if err := json.Unmarshal(data, &seconds); err != nil {
		return err
	}
	d.time = time.Unix(int64(min(max(seconds, 0), latestDate)), 0).UTC()
	return nil
}
