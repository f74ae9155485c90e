// The roles to list and read one registry, and to delete in it if purging is enabled.
param registryName string
param identityPrincipalId string
@description('Whether the registry has permissions per repository (ABAC): roleAssignmentMode AbacRepositoryPermissions.')
param byRepository bool
param enablePurge bool

resource registry 'Microsoft.ContainerRegistry/registries@2025-04-01' existing = {
  name: registryName
}

// Pull and read metadata (AcrPull), and delete (AcrDelete), if permissions apply to the registry as a whole.
var pull = '7f951dda-4ed3-4680-a7ca-43fe172d538d'
var deleteAll = 'c2f4ef07-c644-48eb-af81-4b1b4947fb11'
// The same for permissions per repository (ABAC). Such a registry ignores the two roles above.
var repositoryReader = 'b93aa761-3e63-49ed-ac28-beffa264f7ac'
var catalogLister = 'bfdb9389-c9a5-478a-bb2f-ba9ca092c3c7'
var repositoryContributor = '2efddaa5-3f1f-4df3-97df-af3f13818f4c'

resource reads 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in (byRepository ? [repositoryReader, catalogLister] : [pull]): {
    name: guid(registry.id, identityPrincipalId, role)
    scope: registry
    properties: {
      principalId: identityPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
    }
  }
]

resource deletes 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in (!enablePurge ? [] : byRepository ? [repositoryContributor] : [deleteAll]): {
    name: guid(registry.id, identityPrincipalId, role)
    scope: registry
    properties: {
      principalId: identityPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
    }
  }
]
