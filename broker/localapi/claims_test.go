package localapi

import "testing"

// Who may have tokens that live for a day is not for the caller to say, however
// it is written; what else is asked for is kept.
func TestClaimsWithoutCapabilities(t *testing.T) {
	const challenge = `{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}`
	for text, want := range map[string]string{
		challenge: challenge,
		`{"access_token":{"nbf":{"essential":true,"value":"1700000000"},"xms_cc":{"values":["cp1"]}}}`:                             challenge,
		`{"access_token":{"xms_cc":{"values":["CP1"]}}}`:                                                                           "",
		`{"access_token":{"XMS_CC":{"values":["cp1"]}}}`:                                                                           "",
		`{"Access_Token":{"xms_cc":{"value":"cp1"}}}`:                                                                              "",
		`{"access_token":{"xms\u005fcc":{"values":["cp1"]}}}`:                                                                      "",
		`{"access_token":{"xms_cc":{"values":["cp1"]}},"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}`:            challenge,
		`{"access_token":{"nbf":{"essential":true,"value":"1700000000"}},"access_token":{"xms_cc":null,"xms_cc":{"value":"cp1"}}}`: "",
		`{"id_token":{"xms_cc":null},"access_token":{"xms_cc":{"values":["cp1"]}}}`:                                                `{"id_token":{"xms_cc":null}}`,
		` {"access_token": {"acrs": {"value": "c1"}}} `:                                                                            `{"access_token":{"acrs":{"value":"c1"}}}`,
		`{}`: "", `{"access_token":{}}`: "", `{"access_token":null}`: "", "": "",
	} {
		got, problem := readClaims(form{{"claims", text}})
		if got != want || problem != nil {
			t.Errorf("%s: got %q, %v, want %q", text, got, problem, want)
		}
		if again, problem := readClaims(form{{"claims", got}}); again != got || problem != nil {
			t.Errorf("%s: %q becomes %q", text, got, again)
		}
	}
}
