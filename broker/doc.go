// Package broker owns the one use case: identify, decide, reuse or exchange,
// record. [Broker.Issue] is the only way to get a token out.
//
// Words, each with one meaning here and in the packages below:
//
//	agent           a configured caller, by its name in the policy
//	peer            the process at the other end of the connection
//	identity        who the broker can be at Entra, by its name in the policy
//	workload token  the platform's proof of identity, the assertion of RFC 7521
//	scope           what is asked for, <resource>/<permission>
//	decision        the policy's answer, with the rule that gave it
//	issuance        one answered request, whatever the answer
//
// The package refuses to believe anything a request says about who sends it,
// to hand out a token whose audit line could not be written (unless the policy
// says that it may), and to answer two agents from one cache entry.
package broker
