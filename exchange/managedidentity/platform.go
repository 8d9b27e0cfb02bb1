package managedidentity

import msal "github.com/AzureAD/microsoft-authentication-library-for-go/apps/managedidentity"

// platform is one kind of endpoint, in words.
type platform struct {
	source     string // Token.Source
	who        string // begins the messages
	address    string // what to check when it cannot be reached
	names      string // which names of identities it takes
	challenges bool   // it asks for the content of a key file first
	starting   bool   // 404 and 410 pass
}

var platforms = map[msal.Source]platform{
	msal.DefaultToIMDS: {
		source: "imds", who: "the Instance Metadata Service", starting: true,
		address: "169.254.169.254 is only there on Azure's virtual machines and their clusters; a firewall or network policy may keep the broker from it",
		names:   "name it by its client id, object id or resource id",
	},
	msal.AppService: {
		source: "app_service", who: "the App Service identity endpoint",
		address: "the platform sets IDENTITY_ENDPOINT and IDENTITY_HEADER when the app has an identity: start the broker inside the app, with both",
		names:   "name it by its client id, object id or resource id",
	},
	msal.AzureArc: {
		source: "arc", who: "the Azure Arc agent", challenges: true,
		address: "check that the agent runs (azcmagent show)",
		names:   "name it by its client id, object id or resource id",
	},
	msal.ServiceFabric: {
		source: "service_fabric", who: "the Service Fabric identity endpoint",
		address: "check IDENTITY_ENDPOINT, and that its certificate is the one that IDENTITY_SERVER_THUMBPRINT names",
		names:   "leave the name out: the application's manifest decides which identity it is",
	},
	msal.AzureML: {
		source: "azure_ml", who: "the Azure Machine Learning identity endpoint",
		address: "the platform sets MSI_ENDPOINT and MSI_SECRET: start the broker inside the job, with both",
		names:   "name it by its client id",
	},
	msal.CloudShell: {
		source: "cloud_shell", who: "the Cloud Shell identity endpoint",
		address: "the platform sets MSI_ENDPOINT: start the broker inside the shell, or unset it elsewhere",
		names:   "leave the name out: there is one identity, the user's own",
	},
}
