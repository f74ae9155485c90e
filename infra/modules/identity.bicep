// The identity of the app: it crawls, stores and reports. Further ones only read, each with a quota of its own.
param name string
param location string
param tags object
param further int
@description('Whether App Service authentication needs one to prove itself with to Entra ID. It gets no role.')
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

// Its only use is to stand for the registration that callers sign in to: no other may, since it would be that registration.
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
