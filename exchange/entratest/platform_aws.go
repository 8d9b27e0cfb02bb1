package entratest

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
)

const stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"

// sigV4 is the Authorization header of AWS Signature Version 4.
var sigV4 = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=[A-Z0-9]{16,128}/\d{8}/[a-z0-9-]+/sts/aws4_request, ?SignedHeaders=[a-z0-9;-]*\bhost\b[a-z0-9;-]*, ?Signature=[0-9a-f]{64}$`)

// NewSTS is a regional endpoint of the AWS Security Token Service with one
// action, GetWebIdentityToken. Requests must be signed, but the signature is
// only looked at, not verified: nobody here knows the key.
func NewSTS(cfg WorkloadConfig) (*PlatformEndpoint, error) {
	e, err := cfg.endpoint(AWS)
	if err != nil {
		return nil, err
	}
	e.serve = cfg.webIdentityToken
	e.environment = func(_ *PlatformEndpoint, base string) map[string]string {
		return map[string]string{"AWS_ENDPOINT_URL_STS": base, "AWS_REGION": cfg.parameter("region")}
	}
	return e, nil
}

// stsFailure is why a request was refused.
type stsFailure struct {
	status        int
	code, message string
}

func (cfg WorkloadConfig) webIdentityToken(r *http.Request, rec *PlatformRequest) reply {
	requestID := uuid.NewString()
	w, refused := cfg.parseWebIdentity(r, rec)
	var token string
	if refused == nil {
		var err error
		if token, err = cfg.Issuer.WorkloadToken(w); err != nil {
			refused = &stsFailure{http.StatusInternalServerError, "InternalFailure", "The token could not be signed"}
		}
	}
	if refused != nil {
		rec.Error = refused.code
		return stsReply(refused.status, requestID, stsError{
			XMLNS: stsNamespace, Type: "Sender", Code: refused.code, Message: refused.message, RequestID: requestID,
		})
	}
	issued := cfg.Issuer.cfg.Now()
	return stsReply(http.StatusOK, requestID, stsAnswer{
		XMLNS: stsNamespace, Token: token, Expiration: timestamp(issued.Add(w.Lifetime)), RequestID: requestID,
	})
}

type stsAnswer struct {
	XMLName    xml.Name `xml:"GetWebIdentityTokenResponse"`
	XMLNS      string   `xml:"xmlns,attr"`
	Token      string   `xml:"GetWebIdentityTokenResult>WebIdentityToken"`
	Expiration string   `xml:"GetWebIdentityTokenResult>Expiration"`
	RequestID  string   `xml:"ResponseMetadata>RequestId"`
}

type stsError struct {
	XMLName   xml.Name `xml:"ErrorResponse"`
	XMLNS     string   `xml:"xmlns,attr"`
	Type      string   `xml:"Error>Type"`
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}

func stsReply(status int, requestID string, doc any) reply {
	body, err := xml.MarshalIndent(doc, "", "  ")
	if err != nil {
		return reply{status: http.StatusInternalServerError}
	}
	return reply{status: status, header: http.Header{
		"Content-Type": {"text/xml"}, "X-Amzn-Requestid": {requestID},
	}, body: append(body, '\n')}
}

// parseWebIdentity reads the form of AWS's query protocol.
func (cfg WorkloadConfig) parseWebIdentity(r *http.Request, rec *PlatformRequest) (Workload, *stsFailure) {
	w := cfg.Workload
	invalid := func(format string, args ...any) (Workload, *stsFailure) {
		return w, &stsFailure{http.StatusBadRequest, "ValidationError", fmt.Sprintf(format, args...)}
	}
	if r.Method != http.MethodPost {
		return w, &stsFailure{http.StatusMethodNotAllowed, "MethodNotAllowed", "The action is called with POST"}
	}
	switch header := r.Header.Get("Authorization"); {
	case header == "":
		return w, &stsFailure{http.StatusForbidden, "MissingAuthenticationToken", "Request is missing Authentication Token"}
	case !sigV4.MatchString(header) || r.Header.Get("X-Amz-Date") == "":
		return w, &stsFailure{http.StatusForbidden, "IncompleteSignature", "The request signature does not conform to AWS standards"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxForm))
	if err != nil {
		return invalid("The body cannot be read")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return invalid("The body is not a form")
	}
	if form.Get("Action") != "GetWebIdentityToken" || form.Get("Version") != "2011-06-15" {
		return w, &stsFailure{http.StatusBadRequest, "InvalidAction", "Could not find operation " + recordable(form.Get("Action")) + " for version " + recordable(form.Get("Version"))}
	}
	audiences := members(form, "Audience", "")
	rec.Audience, rec.Identity = strings.Join(audiences, ","), cfg.parameter("role")
	if len(audiences) == 0 || len(audiences) > 10 {
		return invalid("1 to 10 values are required at 'audience'")
	}
	switch w.Algorithm = form.Get("SigningAlgorithm"); w.Algorithm {
	case "RS256", "ES384":
	default:
		return invalid("Value at 'signingAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [RS256, ES384]")
	}
	if w.Lifetime, err = wholeSeconds(form.Get("DurationSeconds"), 5*time.Minute, time.Minute, time.Hour); err != nil {
		return invalid("Value at 'durationSeconds' is %v", err)
	}
	w.Audience = audiences[0]
	if len(audiences) > 1 {
		w.Claims = withClaim(w.Claims, "aud", audiences)
	}
	if tags := requestTags(form); len(tags) > 0 {
		values, _ := cfg.Issuer.spec.fill(w.Parameters) // checked when the endpoint was made
		namespace, _ := expand(cfg.Issuer.spec.claims[awsNamespace], replacer(values, nil), "").(map[string]any)
		namespace["request_tags"] = tags
		w.Claims = withClaim(w.Claims, awsNamespace, namespace)
	}
	return w, nil
}

// withClaim adds a claim unless the workload has one of its own.
func withClaim(claims map[string]any, name string, value any) map[string]any {
	all := map[string]any{name: value}
	maps.Copy(all, claims)
	return all
}

// members reads a list of the query protocol: Name.member.1 and so on.
func members(form url.Values, name, field string) []string {
	var list []string
	for n := 1; ; n++ {
		key := fmt.Sprintf("%s.member.%d%s", name, n, field)
		if !form.Has(key) {
			return list
		}
		list = append(list, form.Get(key))
	}
}

func requestTags(form url.Values) map[string]any {
	keys, values := members(form, "Tags", ".Key"), members(form, "Tags", ".Value")
	tags := map[string]any{}
	for i, key := range keys[:min(len(keys), len(values))] {
		tags[key] = values[i]
	}
	return tags
}
