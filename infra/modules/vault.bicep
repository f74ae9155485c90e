// The role to read one secret of a Key Vault, and the value of the app setting that refers to it.
param vaultName string
param secretName string
param identityPrincipalId string

// Key Vault Secrets User, assigned on one secret: it reads the value of that secret, and nothing else in the vault.
var secretsUser = '4633458b-17de-408a-874c-0445c86b69e6'

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: vaultName
}

resource secret 'Microsoft.KeyVault/vaults/secrets@2023-07-01' existing = {
  parent: vault
  name: secretName
}

resource reads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(secret.id, identityPrincipalId, secretsUser)
  scope: secret
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsUser)
  }
}

output setting string = '@Microsoft.KeyVault(SecretUri=${secret.properties.secretUri})'
