package policy

import "strings"

// userHint says what to change when a user does not pass. It names the rule and
// nothing that the user's token says.
func userHint(reason Reason, rule string) string {
	return strings.ReplaceAll(userHints[reason], "RULE", rule)
}

var userHints = map[Reason]string{
	UserUnverified:       "send the user's access token: it is verified before anything is done for the user",
	UserExpired:          "get a fresh access token of the user, and send that",
	UserBlocked:          "remove RULE if the user is no longer to be kept out",
	UserTenantNotAllowed: "send a token of the tenant that the identity lives in, or list the user's tenant in RULE and act as an identity of that tenant",
	UserNotListed:        "add the user to RULE if the agent may act for this user",
	UserIsGuest:          "set RULE: true if the agent may act for guests of the tenant",
	UserClientNotAllowed: "add the client id of the app that signed the user in to RULE, or sign the user in with a listed one",
	UserScopeMissing:     "let the app that signs the user in ask for every scope of RULE",
	GroupsOverage:        "the user is in too many groups for a token: set RULE.groupsFromGraph: true, or let Entra emit only groups assigned to the application",
	UserNotInGroup:       "add the user to one of the groups of RULE, or list a group of the user there",
	UserRoleMissing:      "assign one of the app roles of RULE to the user, or list a role of the user there",
	UserACRSMissing:      "let the user sign in again and meet every authentication context of RULE",
	UserAMRMissing:       "let the user sign in again with one of the methods of RULE",
}
