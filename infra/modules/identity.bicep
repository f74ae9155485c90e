// The identity of the app: it crawls, stores and reports. Further ones only read, each with a quota of its own.
param name string
param location string
param tags object
param further int

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

output id string = identity.id
output clientId string = identity.properties.clientId
output principalId string = identity.properties.principalId
output furtherIds array = [for number in range(0, further): readers[number].id]
output furtherClientIds array = [for number in range(0, further): readers[number].properties.clientId]
output furtherPrincipalIds array = [for number in range(0, further): readers[number].properties.principalId]
