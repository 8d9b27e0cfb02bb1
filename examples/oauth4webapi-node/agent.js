// An agent with oauth4webapi that holds no credential.
import { readFileSync } from 'node:fs'
import * as oauth from 'oauth4webapi'

const { BROKER, SCOPE, USER_SCOPE, USER_TOKEN_FILE } = process.env
const issuer = new URL(BROKER)
const client = { client_id: 'demo' }
// The broker is on this machine, so it speaks plain http.
const options = { [oauth.allowInsecureRequests]: true }
const broker = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...options }))

try {
  const response = await oauth.clientCredentialsGrantRequest(broker, client, oauth.None(), { scope: SCOPE }, options)
  const own = await oauth.processClientCredentialsResponse(broker, client, response)
  console.log(`client_credentials: ${own.token_type} token for ${own.scope}`)

  const exchange = 'urn:ietf:params:oauth:grant-type:token-exchange'
  const parameters = {
    resource: new URL(USER_SCOPE).origin,
    scope: USER_SCOPE,
    subject_token: readFileSync(USER_TOKEN_FILE, 'utf8').trim(),
    subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
  }
  const exchanged = await oauth.genericTokenEndpointRequest(broker, client, oauth.None(), exchange, parameters, options)
  const token = await oauth.processGenericTokenEndpointResponse(broker, client, exchanged)
  console.log(`${exchange}: ${token.token_type} token for ${token.scope}`)

  const asked = await oauth.introspectionRequest(broker, client, oauth.None(), own.access_token, options)
  const answer = await oauth.processIntrospectionResponse(broker, client, asked)
  console.log(`introspection: active ${answer.active}, client ${answer.client_id}`)
} catch (error) {
  if (!(error instanceof oauth.ResponseBodyError)) throw error
  console.error(`refused: ${error.error}: ${error.error_description}\nhint: ${error.cause.hint}`)
  process.exitCode = 1
}
