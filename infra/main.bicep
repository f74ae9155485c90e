// azimg on Azure: one resource group, one identity, no keys.
targetScope = 'subscription'

@minLength(1)
@maxLength(40)
@description('Names the resource group and everything in it.')
param environmentName string

@description('The region to deploy to.')
param location string

@description('Locations to crawl, separated by commas; empty means all.')
param crawlLocations string = ''

@description('When to crawl: six fields, in UTC.')
param schedule string = '0 0 3 * * *'

@description('A person or group that may read and write the data too; empty means nobody.')
param principalId string = ''

var tags = { 'azd-env-name': environmentName }
var token = toLower(uniqueString(subscription().id, environmentName, location))
var readerRole = 'acdd72a7-3385-48ef-bd42-f606fba81ae7'

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  scope: group
  params: {
    name: 'id-azimg-${token}'
    location: location
    tags: tags
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  scope: group
  params: {
    name: 'stazimg${token}'
    location: location
    tags: tags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  scope: group
  params: {
    name: 'azimg-${token}'
    location: location
    tags: tags
  }
}

module roles 'modules/roles.bicep' = {
  name: 'roles'
  scope: group
  params: {
    storageName: storage.outputs.name
    insightsName: monitoring.outputs.name
    identityPrincipalId: identity.outputs.principalId
    principalId: principalId
  }
}

module app 'modules/app.bicep' = {
  name: 'app'
  scope: group
  params: {
    name: 'func-azimg-${token}'
    location: location
    tags: tags
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    storageName: storage.outputs.name
    insightsConnection: monitoring.outputs.connection
    crawlLocations: crawlLocations
    schedule: schedule
  }
  dependsOn: [
    roles
  ]
}

// The crawler reads the catalog through this subscription, and nothing more.
resource reader 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(subscription().id, 'azimg', token, readerRole)
  properties: {
    principalId: identity.outputs.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', readerRole)
  }
}

output AZURE_RESOURCE_GROUP string = group.name
output AZIMG_API string = app.outputs.api
output AZIMG_STORE string = app.outputs.store
