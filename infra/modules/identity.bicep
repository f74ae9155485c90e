// The identity of the app: it crawls, accesses storage and writes the log. Additional identities only read, each with
// its own quota.
param name string
param location string
param tags object
param further int
@description('Whether to create an identity with which App Service authentication authenticates to Entra ID. It gets no role.')
param signIn bool

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: name
  location: location
  tags: tags
}

resource readers 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = [
  for number in range(0, further): {
    name: '${name}-${number + 2}'
    location: location
    tags: tags
  }
]

// Authenticates as the app registration that callers sign in to, and has no other use. No other identity may do that,
// because it could act as that registration.
resource signer 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = if (signIn) {
  name: '${name}-sign-in'
  location: location
  tags: tags
}

output id string = identity.id
output clientId string = identity.properties.clientId
output principalId string = identity.properties.principalId
output furtherIds array = [for number in range(0, further): readers[number].id]
output furtherClientIds array = [for number in range(0, further): readers[number].properties.clientId]
output furtherPrincipalIds array = [for number in range(0, further): readers[number].properties.principalId]
output signInIds array = signIn ? [signer.id] : []
output signInClientId string = signer.?properties.clientId ?? ''
output signInPrincipalId string = signer.?properties.principalId ?? ''
