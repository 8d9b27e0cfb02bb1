package entratest

import (
	"math/rand/v2"
	"strconv"
	"strings"
)

// The facets of a principal that are public.
const (
	facetAgentIdentity = 11
	facetAgentUser     = 13
)

// The relations between a principal and the tenant: xms_idrel.
const (
	relationUser  = "1"
	relationGuest = "5"
	relationApp   = "7"
)

// facets is a set of facets as its claim has it: numbers without order, and
// among them some that nobody has heard of. Those here contain the known ones
// as text, for clients that do not split.
func facets(known ...int) string {
	all := append([]int{3, 9, 111, 113 + 20*rand.IntN(3)}, known...)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	texts := make([]string, len(all))
	for i, f := range all {
		texts[i] = strconv.Itoa(f)
	}
	return strings.Join(texts, " ")
}

// addAgentClaims marks tokens that were issued to an agent, and those whose
// user is one, whoever they were issued to.
func addAgentClaims(c map[string]any, t accessToken) {
	agentUser := t.user != nil && t.user.AgentIdentity != ""
	if t.blueprint == "" && !agentUser {
		return
	}
	c["xms_tnt_fct"] = facets()
	if t.blueprint != "" {
		c["xms_act_fct"] = facets(facetAgentIdentity)
		c["xms_par_app_azp"] = t.blueprint
	}
	switch {
	case agentUser:
		c["xms_sub_fct"], c["xms_idrel"] = facets(facetAgentUser), relationUser
	case t.user == nil:
		c["xms_sub_fct"], c["xms_idrel"] = facets(facetAgentIdentity), relationApp
		if t.version == 1 {
			c["scp"] = "/" // no scope at all, although the claim is there
		}
	case t.user.Guest:
		c["xms_sub_fct"], c["xms_idrel"] = facets(), relationGuest
	default:
		c["xms_sub_fct"], c["xms_idrel"] = facets(), relationUser
	}
}
