// Package managedidentity asks the machine's managed identity endpoint for a token.
//
// MSAL Go finds out from the environment which platform this is and speaks its
// protocol: the Instance Metadata Service, App Service (with Functions and
// Container Apps), Azure Arc, Service Fabric, Azure Machine Learning, Cloud Shell.
// Its cache is one for the whole process, so no token gets into it: a [call]
// stands between MSAL and the endpoint, keeps the answer to itself, and shows MSAL
// what is left of it without the token. Each Token asks the endpoint anew.
//
// The package asks once. It refuses to repeat, because whoever asks knows how
// long it can wait, and every failure says whether waiting may help: 404, 410,
// 429 and 5xx of the Instance Metadata Service are to be repeated, says Microsoft,
// with pauses of 2 s doubling to 16 s, and up to 70 s after a 410. It refuses to
// cache, to follow redirects, to use a proxy, and to show anything of an answer in
// an error. See
// https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token.
package managedidentity
