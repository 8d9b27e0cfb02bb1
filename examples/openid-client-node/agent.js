// An agent with openid-client that holds no credential.
import { readFileSync } from 'node:fs'
import * as client from 'openid-client'

const { BROKER, SCOPE, USER_SCOPE, USER_TOKEN_FILE } = process.env
// The broker is on this machine, so it speaks plain http.
const broker = await client.discovery(new URL(BROKER), 'demo', undefined, client.None(), { execute: [client.allowInsecureRequests], algorithm: 'oauth2' })

async function getToken(grant, ask) {
  const token = await ask()
  console.log(`${grant}: ${token.token_type} token for ${token.scope}`)
  return token
}

try {
  const own = await getToken('client_credentials', () => client.clientCredentialsGrant(broker, { scope: SCOPE }))
  const exchange = 'urn:ietf:params:oauth:grant-type:token-exchange'
  await getToken(exchange, () =>
    client.genericGrantRequest(broker, exchange, {
      scope: USER_SCOPE,
      subject_token: readFileSync(USER_TOKEN_FILE, 'utf8').trim(),
      subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    }),
  )
  const answer = await client.tokenIntrospection(broker, own.access_token)
  console.log(`introspection: active ${answer.active}, client ${answer.client_id}`)
} catch (error) {
  if (!(error instanceof client.ResponseBodyError)) throw error
  console.error(`refused: ${error.error}: ${error.error_description}\nhint: ${error.cause.hint}`)
  process.exitCode = 1
}
