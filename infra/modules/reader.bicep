// The role Reader on one subscription: for marketplace listings, galleries, registries and Resource Graph.
targetScope = 'subscription'

param principalIds array

var reader = 'acdd72a7-3385-48ef-bd42-f606fba81ae7'

resource assignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for id in principalIds: {
    name: guid(subscription().id, id, reader)
    properties: {
      principalId: id
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', reader)
    }
  }
]
